package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// resolve turns NAME=value into a map: X_FILE gives X where X is unset, $Y stands for the value of Y.
func resolve(environ []string) (map[string]string, error) {
	values := map[string]string{}
	for _, item := range environ {
		if name, value, ok := strings.Cut(item, "="); ok {
			values[name] = value
		}
	}
	var errs []error
	for name, path := range values {
		target, ok := strings.CutSuffix(name, "_FILE")
		if !ok || !known(target) || values[target] != "" || path == "" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		values[target] = strings.TrimRight(string(content), "\r\n")
	}
	for name, value := range values {
		if ref, ok := strings.CutPrefix(value, "$"); ok && known(name) {
			if referred, there := values[ref]; there {
				values[name] = referred
			}
		}
	}
	for name, value := range values { // an empty value is an unset one, so that defaults apply
		if value == "" {
			delete(values, name)
		}
	}
	return values, errors.Join(errs...)
}

// known keeps the rules above away from variables that are not ours.
func known(name string) bool {
	for _, field := range variables() {
		if field == name {
			return true
		}
	}
	return strings.HasPrefix(name, "OIDC_")
}

func alias(values map[string]string, name string, fallback int64) (int64, error) {
	text := values[name]
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fallback, fmt.Errorf("%s is not a whole number", name)
	}
	return n, nil
}

// oidcServers reads OIDC_AUTH_SERVER_1, _2, … until the first that is missing (system.md 3.5).
func oidcServers(values map[string]string) ([]OIDCServer, error) {
	var servers []OIDCServer
	var errs []error
	for n := 1; ; n++ {
		get := func(name string) string { return values[fmt.Sprintf("%s_%d", name, n)] }
		issuer := get("OIDC_AUTH_SERVER")
		if issuer == "" {
			return servers, errors.Join(errs...)
		}
		s := OIDCServer{Issuer: issuer, ClientID: get("OIDC_CLIENT_ID"), ClientSecret: Secret(get("OIDC_CLIENT_SECRET")), RedirectURI: get("OIDC_REDIRECT_URI")}
		for name, value := range map[string]string{"OIDC_CLIENT_ID": s.ClientID, "OIDC_CLIENT_SECRET": s.ClientSecret.Reveal(), "OIDC_REDIRECT_URI": s.RedirectURI} {
			if value == "" {
				errs = append(errs, fmt.Errorf("%s_%d is not set, but OIDC_AUTH_SERVER_%d is", name, n, n))
			}
		}
		servers = append(servers, s)
	}
}

// withFile adds the variables of a .env file that the environment does not have.
func withFile(environ []string, path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return environ, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	set := map[string]bool{}
	for _, item := range environ {
		name, _, _ := strings.Cut(item, "=")
		set[name] = true
	}
	for n, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return nil, fmt.Errorf("%s, line %d: neither NAME=value nor a comment", path, n+1)
		}
		if name = strings.TrimSpace(name); !set[name] {
			environ = append(environ, name+"="+unquote(strings.TrimSpace(value)))
		}
	}
	return environ, nil
}

func unquote(value string) string {
	if len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		return value[1 : len(value)-1]
	}
	return value
}
