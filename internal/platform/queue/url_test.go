package queue_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/queue"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	type want struct {
		addrs                []string
		user, password       string
		sentinelUser, sentPw string
		master               string
		db                   int
		cluster, tls         bool
	}
	for url, w := range map[string]want{
		"redis://localhost":                                 {addrs: []string{"localhost:6379"}},
		"redis://":                                          {addrs: []string{"localhost:6379"}},
		"redis://[::1]:7000/3":                              {addrs: []string{"[::1]:7000"}, db: 3},
		"redis://:p%40ss@cache:6380/2":                      {addrs: []string{"cache:6380"}, password: "p@ss", db: 2},
		"rediss://app:p@cache?db=4":                         {addrs: []string{"cache:6379"}, user: "app", password: "p", db: 4, tls: true},
		"unix:///run/redis.sock?db=1":                       {addrs: []string{"/run/redis.sock"}, db: 1},
		"redis+socket:///run/redis.sock":                    {addrs: []string{"/run/redis.sock"}},
		"redis://a,b:7001":                                  {addrs: []string{"a:6379", "b:7001"}, cluster: true},
		"redis://a?cluster=true":                            {addrs: []string{"a:6379"}, cluster: true},
		"rediss+cluster://u:p@a,b":                          {addrs: []string{"a:6379", "b:6379"}, user: "u", password: "p", cluster: true, tls: true},
		"sentinel://h1:26379;sentinel://h2:26379/1":         {addrs: []string{"h1:26379", "h2:26379"}, master: "mymaster", db: 1},
		"sentinel://:pw@h1;sentinel://:pw@h2":               {addrs: []string{"h1:26379", "h2:26379"}, master: "mymaster", password: "pw"},
		"sentinel://h1;sentinel://h2/0?master_name=primary": {addrs: []string{"h1:26379", "h2:26379"}, master: "primary"},
		"redis-sentinel://u:p@h1,h2/primary/5?sentinel_username=su&sentinel_password=sp": {addrs: []string{"h1:26379", "h2:26379"},
			master: "primary", user: "u", password: "p", db: 5, sentinelUser: "su", sentPw: "sp"},
		"rediss+sentinel://h1/primary": {addrs: []string{"h1:26379"}, master: "primary", tls: true},
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			o, err := queue.ParseURL(url)
			require.NoError(t, err)
			require.Equal(t, w, want{o.Addrs, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.MasterName, o.DB, o.IsClusterMode, o.TLSConfig != nil})
		})
	}
	for _, url := range []string{"", "http://secret@x", "amqp://secret@x", "redis://x:secret", "redis://x/secret", "redis://u:secret%zz@x",
		"unix://secret", "redis+cluster://a/1", "redis://x?secret;%zz", "sentinel://h1;redis://secret"} {
		t.Run("Refuses "+url, func(t *testing.T) {
			t.Parallel()
			_, err := queue.ParseURL(url)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "secret", "an error never shows the URL")
		})
	}
	o, err := queue.ParseURL("rediss://x?ssl_cert_reqs=CERT_NONE")
	require.NoError(t, err)
	require.True(t, o.TLSConfig.InsecureSkipVerify)
}
