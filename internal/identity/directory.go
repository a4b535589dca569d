package identity

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"cohortflow/internal/platform/httpclient"
)

// The names that USER_AUTHENTICATION_HOOKS and USER_IDENTITY_HOOKS may hold (system.md 3.4).
const (
	HookAuthenticate = "admin_cohort.tools.hooks.authenticate_user"
	HookIdentity     = "admin_cohort.tools.hooks.check_user_identity"
)

// DirectoryConfig says where the hospital's directory of people is.
type DirectoryConfig struct {
	Log    *slog.Logger
	Client *httpclient.Client
	URL    string // IDENTITY_SERVER_URL
	Token  string // IDENTITY_SERVER_AUTH_TOKEN
}

// NewDirectory checks passwords by the named hooks, in order; nil when none is named, and then local passwords count.
// Unknown names are logged, and let nobody in.
func NewDirectory(hooks []string, cfg DirectoryConfig) Directory {
	n := recognised(hooks, HookAuthenticate, cfg.Log)
	if n < 0 {
		return nil
	}
	return passwordHooks{cfg, n}
}

// NewPeople looks people up by the named hooks, in order; nil when none is named.
func NewPeople(hooks []string, cfg DirectoryConfig) People {
	n := recognised(hooks, HookIdentity, cfg.Log)
	if n < 0 {
		return nil
	}
	return identityHooks{cfg, n}
}

// recognised counts the hooks that are known; -1 when none is named at all.
func recognised(hooks []string, name string, log *slog.Logger) int {
	named, known := 0, 0
	for _, hook := range hooks {
		switch strings.TrimSpace(hook) {
		case "":
			continue
		case name:
			known++
		default:
			log.Error("hook improperly configured: its name is not known", "hook", hook, "known", name)
		}
		named++
	}
	if named == 0 {
		return -1
	}
	return known
}

func (cfg DirectoryConfig) post(ctx context.Context, path string, form url.Values) (*httpclient.Response, error) {
	req := formRequest("identity", strings.TrimSuffix(cfg.URL, "/")+path, form)
	req.Header.Set("Key-auth", cfg.Token)
	return cfg.Client.Do(ctx, req)
}

type passwordHooks struct {
	cfg   DirectoryConfig
	times int
}

var errNoDirectory = errors.New("no directory of people could be asked")

// Authenticate implements Directory: one hook that says yes is enough; an error is only that none could say anything.
func (h passwordHooks) Authenticate(ctx context.Context, username, password string) (bool, error) {
	judged := false
	for range h.times {
		resp, err := h.cfg.post(ctx, "/user/authenticate", url.Values{"username": {username}, "password": {password}})
		if err == nil && resp.Status == http.StatusOK {
			return true, nil
		}
		judged = judged || err == nil || refusedByProvider(err)
	}
	if !judged {
		return false, errNoDirectory
	}
	return false, nil
}

type identityHooks struct {
	cfg   DirectoryConfig
	times int
}

// Find implements People: a hook that fails is logged and passed over.
func (h identityHooks) Find(ctx context.Context, username string) (Person, bool, error) {
	for range h.times {
		resp, err := h.cfg.post(ctx, "/user/info", url.Values{"username": {username}})
		if err != nil {
			continue // a person that is not known, or a failure that the client has logged
		}
		if p, ok := personIn(resp.Body); ok {
			return p, true, nil
		}
		h.cfg.Log.ErrorContext(ctx, "the directory of people answered something else")
	}
	return Person{}, false, nil
}

// personIn reads the answer about a person, all of whose attributes must be there.
func personIn(raw []byte) (Person, bool) {
	var answer struct {
		Data struct {
			Attributes struct {
				Firstname *string `json:"givenName"`
				Lastname  *string `json:"sn"`
				Username  *string `json:"cn"`
				Email     *string `json:"mail"`
			} `json:"attributes"`
		} `json:"data"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		return Person{}, false
	}
	a := answer.Data.Attributes
	if a.Firstname == nil || a.Lastname == nil || a.Username == nil || a.Email == nil {
		return Person{}, false
	}
	return Person{Username: *a.Username, Firstname: *a.Firstname, Lastname: *a.Lastname, Email: *a.Email}, true
}
