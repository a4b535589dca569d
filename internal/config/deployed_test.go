package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

const deploy = "../../deploy/"

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(deploy + name)
	require.NoError(t, err)
	return string(text)
}

// TestDeployedVariablesAreKnown holds deploy/ against what Load reads: every variable named there is one of ours, and those
// that a site is told to fill in are enough to serve with.
func TestDeployedVariablesAreKnown(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(*testing.T) documented{"Compose": composeVariables, "Kubernetes": kubernetesVariables} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given := read(t)
			for variable, value := range containerVariables(t) {
				given[variable] = value
			}
			require.Greater(t, len(given), 10)
			var environ []string
			for variable, value := range given {
				require.Contains(t, variables(), variable)
				environ = append(environ, variable+"="+filledIn(variable, value))
			}
			cfg, err := Load(environ)
			require.NoError(t, err)
			require.NoError(t, cfg.Serving())
			require.Equal(t, "0.0.0.0:8080", cfg.System.Addr, "what the image says is where the ports are")
		})
	}
}

// filledIn is a value where a site must give one.
func filledIn(variable, value string) string {
	switch {
	case value != "":
		return value
	case strings.HasSuffix(variable, "DATABASE_URL"):
		return "postgres://user@host/name"
	case strings.HasSuffix(variable, "_URL"):
		return "http://host.example.org"
	case strings.HasSuffix(variable, "_ID"):
		return "1"
	}
	return "given"
}

// composeVariables are those of compose.yaml and of the file that it reads, commented ones included.
func composeVariables(t *testing.T) documented {
	t.Helper()
	given := read(t, deploy+"example.env", exampleLine)
	text := deployed(t, "compose.yaml")
	for _, asked := range regexp.MustCompile(`\$\{([A-Z_]+)`).FindAllStringSubmatch(text, -1) {
		require.Contains(t, given, asked[1], "compose.yaml asks for what example.env does not name")
	}
	var file struct {
		Common struct {
			Environment map[string]string `yaml:"environment"`
		} `yaml:"x-cohortflow"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(text), &file))
	require.NotEmpty(t, file.Common.Environment)
	for variable, value := range file.Common.Environment {
		given[variable] = value
	}
	return given
}

// kubernetesVariables are those of the ConfigMap, and those of the Secret that its comment makes.
func kubernetesVariables(t *testing.T) documented {
	t.Helper()
	text := deployed(t, "kubernetes/config.yaml")
	var file struct {
		Data map[string]string `yaml:"data"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(text), &file))
	require.NotEmpty(t, file.Data)
	given := documented(file.Data)
	for _, secret := range regexp.MustCompile(`--from-literal=([A-Z_]+)=`).FindAllStringSubmatch(text, -1) {
		require.NotContains(t, given, secret[1], "it is a secret, and in the ConfigMap")
		given[secret[1]] = ""
	}
	return given
}

// containerVariables are those that the image sets.
func containerVariables(t *testing.T) documented {
	t.Helper()
	given := documented{}
	for _, line := range regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(deployed(t, "Containerfile"), -1) {
		for pair := range strings.FieldsSeq(line[1]) {
			variable, value, _ := strings.Cut(pair, "=")
			given[variable] = value
		}
	}
	require.NotEmpty(t, given)
	return given
}
