package identity

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/httpclient"
)

const (
	// keysFor is how long a fetched key set is used before it is fetched again: a key that its issuer has withdrawn is
	// accepted for no longer, unless the issuer cannot be reached.
	keysFor = time.Hour
	// keysPause is the least time between two fetches: tokens with invented key ids must not flood the issuer.
	keysPause = 30 * time.Second
	// endpointsFor is how long the endpoints that a provider published are used.
	endpointsFor = 10 * time.Minute
)

// issuer keeps what a provider publishes: its endpoints and its keys.
type issuer struct {
	url   string
	http  *httpclient.Client
	clock clock.Clock

	fetching sync.Mutex // held while the network is asked: everybody else waits for that one answer

	mu sync.Mutex // guards what follows; never held while waiting for the network

	where      endpoints
	whereUntil time.Time

	keys     map[string]*rsa.PublicKey
	keysAt   time.Time // of the last success
	triedAt  time.Time // of the last attempt
	hasTried bool
}

func newIssuer(url string, client *httpclient.Client, clk clock.Clock) *issuer {
	return &issuer{url: url, http: client, clock: clk}
}

// endpoints asks the provider where to ask, every few minutes; one that cannot tell is asked where it was asked before.
func (i *issuer) endpoints(ctx context.Context) endpoints {
	now := i.clock.Now()
	i.mu.Lock()
	where, until := i.where, i.whereUntil
	i.mu.Unlock()
	if where.Token != "" && now.Before(until) {
		return where
	}
	found, ok := discover(ctx, i.http, i.url)
	until = now.Add(endpointsFor)
	if !ok {
		until = now.Add(keysPause)
		if where.Token != "" {
			found = where
		}
	}
	if ctx.Err() != nil { // who asked has gone: that says nothing about the provider
		return found
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.where, i.whereUntil = found, until
	return found
}

// errNoSuchKey is about a key id that a fresh set of keys does not have.
var errNoSuchKey = errors.New("the issuer has no key of this id")

// undecided is about a key that could not be looked for: the token may be good.
func undecided() error {
	return fault.Undecided{Detail: "The identity provider cannot be reached: try again in a moment.", RetryAfter: int(keysPause.Seconds())}
}

// key is the issuer's RSA key of that id. An id that is not known has the keys fetched again, but not all the time; keys
// that cannot be fetched stay as they were. A fresh set decides; without one, a key that is not there is undecided.
func (i *issuer) key(ctx context.Context, kid string) (*rsa.PublicKey, error) {
	if key, ok := i.cached(kid); ok {
		return key, nil
	}
	i.fetching.Lock()
	defer i.fetching.Unlock()
	if key, ok := i.cached(kid); ok { // fetched while we waited
		return key, nil
	}
	if i.mayFetch() {
		_ = i.fetch(context.WithoutCancel(ctx)) // the answer serves others, too; the client logs a failure
	}
	return i.whatever(kid)
}

// cached is a key of a set that is fresh.
func (i *issuer) cached(kid string) (*rsa.PublicKey, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	key, ok := i.keys[kid]
	return key, ok && i.fresh()
}

// fresh tells whether the set of keys is new enough to decide; mu is held.
func (i *issuer) fresh() bool { return i.keys != nil && i.clock.Now().Sub(i.keysAt) < keysFor }

// whatever is a key of the set that there is, fresh or not.
func (i *issuer) whatever(kid string) (*rsa.PublicKey, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if key, ok := i.keys[kid]; ok {
		return key, nil
	}
	if i.fresh() {
		return nil, errNoSuchKey
	}
	return nil, undecided()
}

func (i *issuer) mayFetch() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock.Now()
	if i.hasTried && now.Sub(i.triedAt) < keysPause {
		return false
	}
	i.triedAt, i.hasTried = now, true
	return true
}

func (i *issuer) fetch(ctx context.Context) error {
	var set struct {
		Keys []jsonWebKey `json:"keys"`
	}
	err := i.http.JSON(ctx, httpclient.Request{Peer: "oidc", URL: i.endpoints(ctx).Keys, Timeout: 10 * time.Second, MaxBody: 1 << 20}, &set)
	if err != nil {
		return fmt.Errorf("fetch the keys of an issuer: %w", err)
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		if key, ok := k.rsa(); ok {
			keys[k.ID] = key
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys, i.keysAt = keys, i.clock.Now()
	return nil
}

// jsonWebKey is a key as published; all but RSA keys for RS256 signatures are passed over.
type jsonWebKey struct {
	ID        string `json:"kid"`
	Type      string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	Modulus   string `json:"n"`
	Exponent  string `json:"e"`
}

func (k jsonWebKey) rsa() (*rsa.PublicKey, bool) {
	if k.Type != "RSA" || (k.Use != "" && k.Use != "sig") || (k.Algorithm != "" && k.Algorithm != "RS256") {
		return nil, false
	}
	n, err1 := base64.RawURLEncoding.DecodeString(k.Modulus)
	e, err2 := base64.RawURLEncoding.DecodeString(k.Exponent)
	if err1 != nil || err2 != nil || len(n) == 0 || len(e) == 0 || len(e) > 4 {
		return nil, false
	}
	exponent := int(new(big.Int).SetBytes(e).Int64())
	if exponent < 3 {
		return nil, false
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}, true
}
