package queue

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// DefaultMaster is the name of the Sentinel master when the URL gives none.
const DefaultMaster = "mymaster"

// ParseURL reads where Redis is. Errors never repeat the URL, which may hold a password.
//
//	redis://[user:password@]host[:6379][/db]                  rediss:// for TLS
//	unix:///path/to.sock[?db=1]                               also redis+socket:// and redis-socket://
//	sentinel://[user:password@]h1[:26379],h2…[/db]            also redis-sentinel:// and redis+sentinel://, rediss+… for TLS
//	sentinel://h1:26379;sentinel://h2:26379[/db]              as Celery writes it
//	redis+cluster://[user:password@]h1[:6379],h2…             also redis-cluster://, rediss+… for TLS; or redis://h1,h2
//
// Parameters: db; master_name (or master; also as the path of a sentinel URL, /name/db) and sentinel_username,
// sentinel_password; cluster=true; ssl_cert_reqs=none (or CERT_NONE) trusts any certificate.
func ParseURL(raw string) (*redis.UniversalOptions, error) {
	parts := strings.Split(strings.TrimSpace(raw), ";")
	if parts[0] == "" {
		return nil, errors.New("the Redis URL is empty")
	}
	var opts *redis.UniversalOptions
	for i, part := range parts {
		if strings.TrimSpace(part) == "" {
			continue
		}
		one, err := parseOne(strings.TrimSpace(part))
		if err != nil {
			if len(parts) > 1 {
				return nil, fmt.Errorf("part %d of the Redis URL: %w", i+1, err)
			}
			return nil, fmt.Errorf("the Redis URL: %w", err)
		}
		if opts == nil {
			opts = one
		} else if err := join(opts, one); err != nil {
			return nil, fmt.Errorf("part %d of the Redis URL: %w", i+1, err)
		}
	}
	return opts, nil
}

// join adds a further node, and what the URL gives only there (Celery: the database of the last part).
func join(opts, more *redis.UniversalOptions) error {
	if (opts.MasterName == "") != (more.MasterName == "") {
		return errors.New("sentinels and other servers are mixed")
	}
	opts.Addrs = append(opts.Addrs, more.Addrs...)
	if opts.MasterName == "" {
		opts.IsClusterMode = true
	}
	if more.MasterName != "" && more.MasterName != DefaultMaster {
		opts.MasterName = more.MasterName
	}
	for _, p := range []struct{ to, from *string }{{&opts.Username, &more.Username}, {&opts.Password, &more.Password},
		{&opts.SentinelUsername, &more.SentinelUsername}, {&opts.SentinelPassword, &more.SentinelPassword}} {
		if *p.to == "" {
			*p.to = *p.from
		}
	}
	if opts.DB == 0 {
		opts.DB = more.DB
	}
	return nil
}

// scheme is what the part before :// means.
type scheme struct {
	tls, unix, sentinel, cluster bool
}

func schemeOf(name string) (scheme, bool) {
	s := scheme{}
	base := strings.NewReplacer("redis-", "", "redis+", "", "rediss-", "tls-", "rediss+", "tls-").Replace(name)
	if rest, ok := strings.CutPrefix(base, "tls-"); ok {
		s.tls, base = true, rest
	}
	switch base {
	case "redis":
	case "rediss":
		s.tls = true
	case "unix", "socket":
		s.unix = true
	case "sentinel":
		s.sentinel = true
	case "cluster":
		s.cluster = true
	default:
		return s, false
	}
	return s, true
}

func parseOne(raw string) (*redis.UniversalOptions, error) {
	name, rest, found := strings.Cut(raw, "://")
	s, known := schemeOf(strings.ToLower(name))
	if !found || !known {
		return nil, errors.New("it must begin with redis://, rediss://, unix://, sentinel:// or redis+cluster://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	params, err := url.ParseQuery(query)
	if err != nil {
		return nil, errors.New("its parameters are malformed")
	}
	opts := &redis.UniversalOptions{IsClusterMode: s.cluster || params.Get("cluster") == "true"}
	at := strings.LastIndex(rest, "@")
	if at >= 0 {
		if opts.Username, opts.Password, err = userinfo(rest[:at]); err != nil {
			return nil, err
		}
		rest = rest[at+1:]
	}
	if s.unix {
		opts.Addrs = []string{rest}
		if !strings.HasPrefix(rest, "/") {
			return nil, errors.New("a socket needs an absolute path")
		}
		return opts, database(opts, params.Get("db"))
	}
	hosts, path, _ := strings.Cut(rest, "/")
	if s.sentinel {
		opts.MasterName = firstOf(params.Get("master_name"), params.Get("master"), DefaultMaster)
		opts.SentinelUsername, opts.SentinelPassword = params.Get("sentinel_username"), params.Get("sentinel_password")
		if master, db, two := strings.Cut(path, "/"); two || !numeric(master) {
			opts.MasterName, path = firstOf(master, opts.MasterName), db
		}
	}
	if opts.Addrs, err = addresses(hosts, s.sentinel); err != nil {
		return nil, err
	}
	opts.IsClusterMode = opts.IsClusterMode || !s.sentinel && len(opts.Addrs) > 1
	if s.tls {
		opts.TLSConfig = tlsConfig(opts.Addrs, params)
	}
	return opts, database(opts, firstOf(path, params.Get("db")))
}

func userinfo(text string) (user, password string, err error) {
	user, password, hasPassword := strings.Cut(text, ":")
	if user, err = url.PathUnescape(user); err != nil {
		return "", "", errors.New("its user name is malformed")
	}
	if password, err = url.PathUnescape(password); err != nil || !hasPassword && user == "" {
		return "", "", errors.New("its password is malformed")
	}
	return user, password, nil
}

func database(opts *redis.UniversalOptions, text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("the database must be a number")
	}
	if n != 0 && opts.IsClusterMode {
		return errors.New("a cluster has only database 0")
	}
	opts.DB = n
	return nil
}

func addresses(hosts string, sentinel bool) ([]string, error) {
	port := "6379"
	if sentinel {
		port = "26379"
	}
	var addrs []string
	for _, host := range strings.Split(hosts, ",") {
		host = strings.TrimSpace(host)
		h, p, err := net.SplitHostPort(host)
		if err != nil {
			h, p = strings.Trim(host, "[]"), port
		}
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil, errors.New("a port must be a number up to 65535")
		}
		if h == "" {
			h = "localhost"
		}
		addrs = append(addrs, net.JoinHostPort(h, p))
	}
	return addrs, nil
}

func tlsConfig(addrs []string, params url.Values) *tls.Config {
	host, _, _ := net.SplitHostPort(addrs[0])
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(addrs) == 1 {
		cfg.ServerName = host
	}
	switch strings.ToLower(params.Get("ssl_cert_reqs")) {
	case "none", "cert_none":
		cfg.InsecureSkipVerify = true //nolint:gosec // the operator asked for it, in the form that Celery knows
	}
	return cfg
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func numeric(text string) bool {
	for _, r := range text {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}
