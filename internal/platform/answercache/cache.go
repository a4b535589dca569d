// Package answercache keeps answers of lists in Redis for some minutes, for sites that switch it on (contract: system.md 9).
// web calls it around a route, after authentication and permission; app wires it. It decides nothing about who may ask, never
// gives an answer to another user than it was made for, and never outlives a change: every change gives its group of answers
// a new generation, and an answer is looked for among those of the present generation only. What is in Redis is sealed, keys
// are hashes: nothing there can be read without the application's secret.
package answercache

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"
)

// Group is a set of answers that the same changes make wrong.
type Group string

// The groups. Each depends on those before it: rights decide what lists of cohorts show, cohorts what lists of exports do.
const (
	Rights  Group = "rights"
	Cohorts Group = "cohorts"
	Exports Group = "exports"
)

// reading are the groups whose generations an answer of a group was made under.
var reading = map[Group][]Group{Rights: {Rights}, Cohorts: {Rights, Cohorts}, Exports: {Rights, Cohorts, Exports}}

const (
	// lifetime bounds what no change tells of: an access that begins or ends by its date.
	lifetime = 2 * time.Minute
	// patience bounds the wait for Redis; without it, answers are made anew.
	patience = 200 * time.Millisecond
	// largest is the size of an answer that is still kept.
	largest = 1 << 20
	prefix  = "answers:"
)

// Config is what a cache needs.
type Config struct {
	Redis redis.UniversalClient
	// Secret is the application's: what is kept is sealed with a key derived from it.
	Secret string
	// User is who is asking: the effective user; "" for nobody.
	User func(c *gin.Context) string
	Log  *slog.Logger
}

// Cache keeps answers. It is safe for concurrent use.
type Cache struct {
	cfg  Config
	seal cipher.AEAD
	hash []byte
	// stale holds that a change could not be told to Redis: nothing kept is given until it has been.
	stale atomic.Bool
}

// New returns a cache.
func New(cfg Config) (*Cache, error) {
	if cfg.Redis == nil || cfg.Secret == "" || cfg.User == nil || cfg.Log == nil {
		return nil, errors.New("answercache: Redis, a secret, the user and a log are needed")
	}
	keys, err := hkdf.Key(sha256.New, []byte(cfg.Secret), nil, "cohortflow answer cache", 64)
	if err != nil {
		return nil, fmt.Errorf("answercache: %w", err)
	}
	block, err := aes.NewCipher(keys[:32])
	if err != nil {
		return nil, fmt.Errorf("answercache: %w", err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("answercache: %w", err)
	}
	return &Cache{cfg: cfg, seal: seal, hash: keys[32:]}, nil
}

// entry is a kept answer.
type entry struct {
	Key string `json:"key"` // as the contract shows it: [user].view.action.path.parameters
	// Exact is the question to the letter: the key of the contract does not tell every two questions apart.
	Exact  string              `json:"exact"`
	Status int                 `json:"status"`
	Header map[string][]string `json:"header"`
	Body   []byte              `json:"body"`
}

func (c *Cache) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

func generation(g Group) string { return prefix + "generation:" + string(g) }

// present is the generation of a group now, as part of keys. ok is false while Redis cannot be trusted to know it.
func (c *Cache) present(ctx context.Context, g Group) (text string, ok bool) {
	if c.stale.Load() && !c.renew(ctx) {
		return "", false
	}
	var names []string
	for _, group := range reading[g] {
		names = append(names, generation(group))
	}
	parts := make([]string, len(names))
	for i, name := range names { // one by one: in a cluster they may be on different nodes
		value, err := c.cfg.Redis.Get(ctx, name).Result()
		if errors.Is(err, redis.Nil) { // emptied, or new: begin with a number that was never used
			value, err = c.begin(ctx, name)
		}
		if err != nil {
			return "", false
		}
		parts[i] = value
	}
	return strings.Join(parts, "-"), true
}

// begin gives a group without a generation a random one: counting from 0 again, after Redis was emptied, could bring an
// answer back that is being written right now.
func (c *Cache) begin(ctx context.Context, name string) (string, error) {
	raw := make([]byte, 6)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	fresh := int64(raw[0])<<40 | int64(raw[1])<<32 | int64(raw[2])<<24 | int64(raw[3])<<16 | int64(raw[4])<<8 | int64(raw[5])
	if err := c.cfg.Redis.SetNX(ctx, name, fresh, 0).Err(); err != nil {
		return "", err
	}
	return c.cfg.Redis.Get(ctx, name).Result()
}

// Changed makes what was kept of the groups unreachable, before the change is answered.
func (c *Cache) Changed(ctx context.Context, groups ...Group) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	c.bump(ctx, groups)
}

func (c *Cache) bump(ctx context.Context, groups []Group) bool {
	for _, g := range groups {
		_, err := c.begin(ctx, generation(g)) // an emptied Redis must not count from 0 again
		if err == nil {
			err = c.cfg.Redis.Incr(ctx, generation(g)).Err()
		}
		if err != nil {
			c.stale.Store(true)
			c.cfg.Log.WarnContext(ctx, "answer cache: a change could not be told, nothing kept is used until it is", "error", err)
			return false
		}
	}
	return true
}

// renew makes good for changes that could not be told.
func (c *Cache) renew(ctx context.Context) bool {
	c.stale.Store(false)
	return c.bump(ctx, []Group{Rights, Cohorts, Exports})
}

// place is where the answer to a question is kept: a hash, so that Redis holds no names and no questions.
func (c *Cache) place(g Group, generation, user, exact string) string {
	mac := hmac.New(sha256.New, c.hash)
	for _, part := range []string{user, exact} {
		_, _ = fmt.Fprintf(mac, "%d:%s", len(part), part) // a hash never fails
	}
	return prefix + string(g) + ":" + generation + ":" + hex.EncodeToString(mac.Sum(nil))
}

func (c *Cache) read(ctx context.Context, place string) (e entry, ok bool) {
	sealed, err := c.cfg.Redis.Get(ctx, place).Bytes()
	if err != nil || len(sealed) < c.seal.NonceSize() {
		return e, false
	}
	raw, err := c.seal.Open(nil, sealed[:c.seal.NonceSize()], sealed[c.seal.NonceSize():], []byte(place))
	if err != nil {
		return e, false
	}
	return e, json.Unmarshal(raw, &e) == nil
}

func (c *Cache) write(ctx context.Context, place string, e entry) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	nonce := make([]byte, c.seal.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return err
	}
	return c.cfg.Redis.Set(ctx, place, c.seal.Seal(nonce, nonce, raw, []byte(place)), lifetime).Err()
}
