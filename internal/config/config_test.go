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
		_, err := Load([]string{"FHIR_URL=ftp://x", "LAST_COUNT_VALIDITY=soon", "OIDC_AUTH_SERVER_1=http://kc", "USERNAME_REGEX=(", "COHORT_LIMIT=x",
			"INCLUDED_APPS=accesses,cohort_job_sever", "LOGIN_MAX_FAILURES=0", "LOGIN_LOCK_MINUTES=-1", "DB_MAX_CONNECTIONS=0"})
		for _, name := range []string{"FHIR_URL", "LastCountValidity", "OIDC_CLIENT_ID_1", "OIDC_REDIRECT_URI_1", "USERNAME_REGEX", "COHORT_LIMIT", `"cohort_job_sever"`,
			"LOGIN_MAX_FAILURES", "LOGIN_LOCK_MINUTES", "DB_MAX_CONNECTIONS"} {
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
	t.Run("TrimsLists", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load([]string{"INCLUDED_APPS=accesses, cohort_job_server ,\nexporters,", "FRONTEND_URLS= https://a , https://b", "SECRET_KEY_FALLBACKS=one, two", "OIDC_AUDIENCE= "})
		require.NoError(t, err)
		require.Equal(t, []string{"accesses", "cohort_job_server", "exporters"}, cfg.System.IncludedApps)
		require.Equal(t, []string{"https://a", "https://b"}, cfg.System.FrontendURLs)
		require.Equal(t, []Secret{"one", "two"}, cfg.System.SecretFallbacks)
		require.Empty(t, cfg.Auth.OIDCAudience)
	})
	t.Run("ReadsSwitches", func(t *testing.T) {
		t.Parallel()
		for text, want := range map[string]bool{"true": true, "True": true, " yes ": true, "1": true, "OK": true, "y": true, "on": true, "false": false, "0": false, "off": false, "t": false, "": false} {
			cfg, err := Load([]string{"USE_SOLR=" + text, "TEST_FHIR_QUERIES=" + text, "SYNC_USER_ACCESSES=" + text})
			require.NoError(t, err)
			require.Equal(t, []Bool{Bool(want), Bool(want), Bool(want)}, []Bool{cfg.Cohort.UseSolr, cfg.Cohort.TestFHIRQueries, cfg.Perimeters.SyncAccesses}, text)
		}
	})
	t.Run("ReadsTheSourceOfPerimeters", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load([]string{"INCLUDED_APPS=accesses_perimeters", "PERIMETERS_SOURCE_DB_SCHEMAS=omop,public", "PERIMETERS_SOURCE_DB_HOST=h"})
		require.NoError(t, err)
		require.Equal(t, "omop,public", cfg.Perimeters.SourceSchemas)
		for _, name := range []string{"PERIMETERS_SOURCE_DB_NAME", "PERIMETERS_SOURCE_DB_USER", "PERIMETERS_SOURCE_DB_PASSWORD"} {
			require.ErrorContains(t, cfg.Serving(), name)
		}
		require.NotContains(t, cfg.Serving().Error(), "PERIMETERS_SOURCE_DB_HOST")
		cfg, err = Load([]string{"PERIMETERS_SOURCE_DB_SCHEMAS=old", "PERIMETERS_SOURCE_DB_SCHEMA=new"})
		require.NoError(t, err)
		require.Equal(t, "new", cfg.Perimeters.SourceSchemas)
		require.NotContains(t, cfg.Serving().Error(), "PERIMETERS_SOURCE")
	})
	t.Run("Warns", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load(nil)
		require.NoError(t, err)
		require.Empty(t, cfg.Warnings)
		cfg, err = Load([]string{"COHORT_LIMIT=7", "PERIMETERS_SOURCE_DB_SCHEMAS=a", "INCLUDED_APPS=accesses,cohort,content_management"})
		require.NoError(t, err)
		require.Len(t, cfg.Warnings, 3)
		for i, name := range []string{"COHORT_SIZE_LIMIT", "PERIMETERS_SOURCE_DB_SCHEMA", "exports"} {
			require.Contains(t, cfg.Warnings[i], name)
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
