package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	t.Run("TakesDefaults", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load(nil)
		require.NoError(t, err)
		require.EqualValues(t, 20000, cfg.Cohort.SizeLimit)
		require.Equal(t, 2*time.Hour, cfg.Engine.DeadlineCount)
		require.Equal(t, ".*", cfg.Auth.UsernameRegex)
		require.Equal(t, "redis://localhost:6379", cfg.QueueURL())
		require.Error(t, cfg.Serving(), "keys and a database are needed to serve")
	})
	t.Run("ReportsEveryMistake", func(t *testing.T) {
		t.Parallel()
		_, err := Load([]string{"FHIR_URL=ftp://x", "LAST_COUNT_VALIDITY=soon", "OIDC_AUTH_SERVER_1=http://kc", "USERNAME_REGEX=(", "COHORT_LIMIT=x"})
		for _, name := range []string{"FHIR_URL", "LastCountValidity", "OIDC_CLIENT_ID_1", "OIDC_REDIRECT_URI_1", "USERNAME_REGEX", "COHORT_LIMIT"} {
			require.ErrorContains(t, err, name)
		}
	})
	t.Run("ReadsFilesReferencesAndAliases", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "key")
		require.NoError(t, os.WriteFile(file, []byte("from-file\n"), 0o600))
		cfg, err := Load([]string{"DJANGO_SECRET_KEY_FILE=" + file, "JWT_SIGNING_KEY=$OTHER", `OTHER=a\nb`, "COHORT_LIMIT=7", "DEBUG=On", "DB_HOST=h", "DB_NAME=n", "DB_USER=u", "DB_PASSWORD=p@ss"})
		require.NoError(t, err)
		require.Equal(t, "from-file", cfg.System.SecretKey.Reveal())
		require.Equal(t, "a\nb", cfg.Auth.JWTKey.Reveal())
		require.EqualValues(t, 7, cfg.Cohort.SizeLimit)
		require.True(t, bool(cfg.System.Debug))
		require.Equal(t, "postgres://u:p%40ss@h:5432/n?sslmode=prefer", cfg.DatabaseURL())
	})
	t.Run("ReadsTheFormerNameOfTheSourcesSchemas", func(t *testing.T) {
		t.Parallel()
		const now, formerly = "PERIMETERS_SOURCE_DB_SCHEMA=", "PERIMETERS_SOURCE_DB_SCHEMAS="
		for want, environ := range map[string][]string{
			"public": {formerly}, "omop": {formerly + "omop"}, "a,b": {now + "a,b", formerly + "omop"}, "c": {now + "c"},
		} {
			cfg, err := Load(environ)
			require.NoError(t, err)
			require.Equal(t, want, cfg.Perimeters.SourceSchemas)
		}
	})
	t.Run("NeverPrintsSecrets", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load([]string{"DJANGO_SECRET_KEY=planted-1", "SECRET_KEY_FALLBACKS=planted-2,planted-3", "DB_PASSWORD=planted-4"})
		require.NoError(t, err)
		require.Len(t, cfg.System.SecretFallbacks, 2)
		for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
			require.NotContains(t, fmt.Sprintf(form, cfg), "planted")
		}
	})
}

func TestWithFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), ".env")
	require.NoError(t, os.WriteFile(file, []byte("# comment\nA=1\nexport B=\"two words\"\n"), 0o600))
	got, err := withFile([]string{"A=real"}, file)
	require.NoError(t, err)
	require.Equal(t, []string{"A=real", "B=two words"}, got)
	require.NoError(t, os.WriteFile(file, []byte("nonsense\n"), 0o600))
	_, err = withFile(nil, file)
	require.ErrorContains(t, err, "line 1")
}
