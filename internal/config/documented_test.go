package config

import (
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// documented are names and defaults as a page gives them.
type documented map[string]string

// wanted reads them from the structs; two defaults are made by Load, because other names can give the value.
func wanted(t *testing.T) documented {
	t.Helper()
	want := documented{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			name, tagged := field.Tag.Lookup("env")
			if !tagged && field.Type.Kind() == reflect.Struct {
				walk(field.Type)
			}
			if tagged && name != "-" {
				want[name] = field.Tag.Get("envDefault")
			}
		}
	}
	walk(reflect.TypeFor[Config]())
	cfg, err := Load(nil)
	require.NoError(t, err)
	want["COHORT_SIZE_LIMIT"], want["EMAIL_REGEX"] = strconv.FormatInt(cfg.Cohort.SizeLimit, 10), cfg.Auth.EmailRegex
	require.ElementsMatch(t, variables(), keys(want))
	return want
}

func keys(d documented) []string {
	names := make([]string, 0, len(d))
	for name := range d {
		names = append(names, name)
	}
	return names
}

var (
	exampleLine = regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]*)=(.*)$`)
	tableRow    = regexp.MustCompile("(?m)^\\| `([A-Z0-9_]+)` \\| (?:–|`(.*?)`) \\| (.+) \\|$")
	numbered    = regexp.MustCompile(`^OIDC_[A-Z_]+_1$`)
)

// read finds the documented variables of a page; one that is there twice is a mistake.
func read(t *testing.T, path string, line *regexp.Regexp) documented {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	found := documented{}
	for _, match := range line.FindAllStringSubmatch(string(text), -1) {
		if numbered.MatchString(match[1]) {
			continue // the providers are no fields: see oidcServers
		}
		require.NotContains(t, found, match[1], path)
		found[match[1]] = match[2]
	}
	return found
}

// TestDocumented holds what operators read against what Load reads, so that neither can be changed alone.
func TestDocumented(t *testing.T) {
	t.Parallel()
	want := wanted(t)
	for path, line := range map[string]*regexp.Regexp{"../../.env.example": exampleLine, "../../docs/configuration.md": tableRow} {
		t.Run(path[strings.LastIndex(path, "/")+1:], func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, read(t, path, line))
		})
	}
}

// TestExampleLoads takes the example as the .env file of somebody who uncommented all of it.
func TestExampleLoads(t *testing.T) {
	t.Parallel()
	var environ []string
	for name, value := range read(t, "../../.env.example", exampleLine) {
		environ = append(environ, name+"="+value)
	}
	got, err := Load(environ)
	require.NoError(t, err)
	plain, err := Load(nil)
	require.NoError(t, err)
	require.Equal(t, plain, got)
}
