package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const file = "/data/exports/alice_2026 1&2.zip"

type bundle struct {
	*Storage
	logs *bytes.Buffer
}

func setup(t *testing.T, change func(*Config), providers ...string) *bundle {
	t.Helper()
	cfg := Config{Providers: providers, User: "cohort", Timeout: 10 * time.Second}
	if change != nil {
		change(&cfg)
	}
	logs := &bytes.Buffer{}
	s, err := New(cfg, slog.New(slog.NewTextHandler(logs, nil)))
	require.NoError(t, err)
	return &bundle{s, logs}
}

// impatient shortens the waiting in tests of silence, and only there: an answer may take its time on a busy machine.
func impatient(really bool) func(*Config) {
	if !really {
		return nil
	}
	return func(cfg *Config) { cfg.Timeout = 2 * time.Second }
}

func (b *bundle) read(t *testing.T, name string) string {
	t.Helper()
	body, size, err := b.Open(t.Context(), name)
	require.NoError(t, err)
	content, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.EqualValues(t, len(content), size)
	return string(content)
}

func (b *bundle) write(t *testing.T, name, content string) {
	t.Helper()
	w, err := b.Create(t.Context(), name)
	require.NoError(t, err)
	_, err = io.WriteString(w, content)
	require.NoError(t, err)
	require.NoError(t, w.Commit())
	require.NoError(t, w.Abort())
}

// closedURL is an address where nobody listens.
func closedURL(t *testing.T, scheme string) string {
	t.Helper()
	c := startCluster(t, nil)
	c.name.Close()
	return scheme + strings.TrimPrefix(c.name.URL, "http")
}

func TestWebHDFSReads(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "the archive"})
	s := setup(t, nil, c.name.URL)
	require.Equal(t, "the archive", s.read(t, file))
	require.Equal(t, []string{"GETFILESTATUS", "OPEN", "OPEN*"}, c.asked())
	require.Equal(t, "op=OPEN&offset=0", c.calls[1].URL.RawQuery)
	require.Equal(t, "application/octet-stream", c.calls[0].Header.Get("Content-Type"))
	info, err := s.Stat(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, Info{Size: 11}, info)
	info, err = s.Stat(t.Context(), "/dir")
	require.NoError(t, err)
	require.True(t, info.Dir)
	_, _, err = s.Open(t.Context(), "/dir")
	require.Equal(t, "Path is not a file: /dir", Reason(err))
	require.NotContains(t, err.Error()+s.logs.String(), "/dir")
}

func TestWebHDFSFileIsGone(t *testing.T) {
	t.Parallel()
	first, second := startCluster(t, nil), startCluster(t, map[string]string{file: "another"})
	s := setup(t, nil, first.name.URL, second.name.URL)
	_, _, err := s.Open(t.Context(), file)
	require.ErrorIs(t, err, ErrNotExist)
	require.NotErrorIs(t, err, ErrUnavailable)
	require.Equal(t, "File does not exist: "+file, Reason(err))
	require.NotContains(t, err.Error(), "alice")
	require.Empty(t, second.asked())
	require.NoError(t, s.Remove(t.Context(), file))
}

func TestWebHDFSFailsOver(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"standby": standby,
		"drop":    drop,
		"retriable": func(w http.ResponseWriter, _ *http.Request) bool {
			exception(w, http.StatusForbidden, "RetriableException", "starting up")
			return true
		},
		"unauthorized": func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusUnauthorized); return true },
		"gateway page": func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, "<html>nothing here</html>")
			return true
		},
		"not json":  func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, "hello"); return true },
		"no status": func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, "{}"); return true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := startCluster(t, map[string]string{file: "first"}), startCluster(t, map[string]string{file: "second"})
			first.onName = trouble
			s := setup(t, nil, first.name.URL+";"+second.name.URL)
			require.Equal(t, "second", s.read(t, file))
			require.Contains(t, s.logs.String(), "trying the next one")
			require.NotContains(t, s.logs.String(), "alice")
			s.write(t, "/new/x.zip", "new")
			content, ok := second.content("/new/x.zip")
			require.True(t, ok)
			require.Equal(t, "new", content)
		})
	}
}

func TestWebHDFSDataNodeFailsBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	first, second := startCluster(t, map[string]string{file: "first"}), startCluster(t, map[string]string{file: "second"})
	first.onData = drop
	require.Equal(t, "second", setup(t, nil, first.name.URL, second.name.URL).read(t, file))
}

func TestStorageNobodyHelps(t *testing.T) {
	t.Parallel()
	standing := startCluster(t, nil)
	standing.onName = standby
	s := setup(t, nil, closedURL(t, "http"), closedURL(t, "hdfs"), standing.name.URL)
	_, err := s.Stat(t.Context(), file)
	require.ErrorIs(t, err, ErrUnavailable)
	require.Contains(t, err.Error(), "refused")
	require.Contains(t, err.Error(), "StandbyException")
	require.Equal(t, "Operation category READ is not supported in state standby", Reason(err))
	require.ErrorIs(t, s.Remove(t.Context(), file), ErrUnavailable)

	none := setup(t, nil, "", " ; ")
	_, _, err = none.Open(t.Context(), file)
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorContains(t, err, "STORAGE_PROVIDERS")
	require.Equal(t, "No storage server is available", Reason(err))
}

func TestHDFSRefusedConnectionFailsOver(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "web"})
	s := setup(t, nil, closedURL(t, "hdfs"), c.name.URL)
	require.Equal(t, "web", s.read(t, file))
	s.write(t, "/x/y.zip", "y")
	require.NoError(t, s.Remove(t.Context(), "/x/y.zip"))
	require.Equal(t, 3, strings.Count(s.logs.String(), "hdfs:127.0.0.1"))
}

func TestHDFSThatSpeaksAnotherProtocolFailsOver(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "web"})
	web := "hdfs" + strings.TrimPrefix(c.name.URL, "http")
	require.Equal(t, "web", setup(t, nil, web, c.name.URL).read(t, file))
}

func TestWebHDFSBrokenBody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve func(http.ResponseWriter, *http.Request) bool
		want  error
	}{
		"connection drops": {func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "11")
			_, _ = io.WriteString(w, "the")
			w.(http.Flusher).Flush()
			return drop(w, r)
		}, io.ErrUnexpectedEOF},
		"chunked connection drops": {func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, "the")
			w.(http.Flusher).Flush()
			return drop(w, r)
		}, io.ErrUnexpectedEOF},
		"ends too early": {func(w http.ResponseWriter, _ *http.Request) bool { _, _ = io.WriteString(w, "the"); return true }, io.ErrUnexpectedEOF},
		"empty":          {func(http.ResponseWriter, *http.Request) bool { return true }, io.ErrUnexpectedEOF},
		"too long": {func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, "the archives")
			return true
		}, errLonger},
		"goes silent": {func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.WriteString(w, "the")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := startCluster(t, map[string]string{file: "the archive"})
			cl.onData = c.serve
			s := setup(t, impatient(name == "goes silent"), cl.name.URL)
			body, size, err := s.Open(t.Context(), file)
			require.NoError(t, err)
			require.EqualValues(t, 11, size)
			_, err = io.ReadAll(body)
			require.ErrorIs(t, err, c.want)
			require.NotContains(t, err.Error(), "secret-token")
			require.NoError(t, body.Close())
		})
	}
}

func TestWebHDFSSilentServers(t *testing.T) {
	t.Parallel()
	silent := func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }
	name, data, good := startCluster(t, nil), startCluster(t, map[string]string{file: "x"}), startCluster(t, map[string]string{file: "good"})
	name.onName, data.onData = silent, silent
	s := setup(t, impatient(true), name.name.URL, data.name.URL, good.name.URL)
	require.Equal(t, "good", s.read(t, file))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := s.Open(ctx, file)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrUnavailable)
}

func TestWebHDFSRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := func(location string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if op := r.URL.Query().Get("op"); op != "OPEN" && op != "CREATE" {
				return false
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return true
		}
	}
	for name, location := range map[string]string{"nowhere": "", "file": "file:///etc/passwd", "malformed": "http://%zz/", "gopher": "gopher://h/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, map[string]string{file: "x"})
			c.onName = elsewhere(location)
			s := setup(t, nil, c.name.URL)
			_, _, err := s.Open(t.Context(), file)
			require.ErrorIs(t, err, ErrUnavailable)
			writer, err := s.Create(t.Context(), file)
			require.NoError(t, err)
			require.ErrorContains(t, writer.Commit(), "redirects to nowhere")
		})
	}
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		c := startCluster(t, map[string]string{file: "x"})
		c.onData = elsewhere(c.data.URL + "/again")
		_, _, err := setup(t, nil, c.name.URL).Open(t.Context(), file)
		require.ErrorIs(t, err, ErrUnavailable)
		require.Equal(t, []string{"GETFILESTATUS", "OPEN", "OPEN*"}, c.asked())
	})
	t.Run("from https to http", func(t *testing.T) {
		t.Parallel()
		c := startCluster(t, map[string]string{file: "x"})
		secure := httptest.NewTLSServer(http.HandlerFunc(c.serveName))
		t.Cleanup(secure.Close)
		s := setup(t, func(cfg *Config) { cfg.Transport = secure.Client().Transport }, secure.URL)
		_, err := s.Stat(t.Context(), file)
		require.NoError(t, err)
		_, _, err = s.Open(t.Context(), file)
		require.ErrorContains(t, err, "from https to http")
	})
	t.Run("on the same server", func(t *testing.T) {
		t.Parallel()
		c := startCluster(t, map[string]string{file: "x"})
		c.onName = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("datanode") != "" {
				_, _ = io.WriteString(w, "x")
				return true
			}
			return elsewhere(r.URL.Path+"?op=OPEN&datanode=1")(w, r)
		}
		require.Equal(t, "x", setup(t, nil, "http://u:p@"+strings.TrimPrefix(c.name.URL, "http://")).read(t, file))
		_, password, _ := c.calls[2].BasicAuth()
		require.Equal(t, "p", password)
	})
}

func TestWebHDFSCredentialsStayHome(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "x"})
	c.onName = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Negotiate ticket" {
			return false
		}
		w.Header().Set("WWW-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	host := strings.TrimPrefix(c.name.URL, "http://")
	negotiate := func(r *http.Request) error { r.Header.Set("Authorization", "Negotiate ticket"); return nil }
	s := setup(t, func(cfg *Config) { cfg.Negotiate = negotiate }, "http://me:hush@"+host)
	require.Equal(t, "x", s.read(t, file))
	s.write(t, "/w/x.zip", "y")
	for _, call := range c.calls {
		if strings.HasPrefix(call.URL.Path, "/node") {
			require.Empty(t, call.Header.Get("Authorization"))
			require.NotContains(t, call.URL.RawQuery, "hush")
		}
	}

	c.onName = nil
	named := setup(t, nil, "http://me@"+host)
	_, err := named.Stat(t.Context(), file)
	require.NoError(t, err)
	last := c.calls[len(c.calls)-1]
	require.Equal(t, "op=GETFILESTATUS&user.name=me", last.URL.RawQuery)
	require.Empty(t, last.Header.Get("Authorization"))

	c.onName = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	_, err = s.Stat(t.Context(), file)
	require.Equal(t, "Authentication failure. Check your credentials.", Reason(err))
	noTicket := setup(t, func(cfg *Config) { cfg.Negotiate = func(*http.Request) error { return errors.New("no ticket") } }, "http://me:hush@"+host)
	_, err = noTicket.Stat(t.Context(), file)
	require.ErrorContains(t, err, "no ticket")
	require.NotContains(t, err.Error()+noTicket.logs.String(), "hush")
}

func TestTicketCacheIsMissing(t *testing.T) {
	conf, cache := t.TempDir()+"/krb5.conf", t.TempDir()+"/cache"
	t.Setenv("KRB5_CONFIG", conf)
	t.Setenv("KRB5CCNAME", "FILE:"+cache)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://nn.example.org:9870/", nil)
	require.NoError(t, err)
	require.ErrorContains(t, TicketCache()(request), "Kerberos configuration")
	require.NoError(t, os.WriteFile(conf, []byte("[libdefaults]\n default_realm = EXAMPLE.ORG\n"), 0o600))
	require.ErrorContains(t, TicketCache()(request), "ticket cache")
	for _, garbage := range []string{"", "\x05", "\x05\x04\x00\xff\x01", "not a cache at all"} {
		require.NoError(t, os.WriteFile(cache, []byte(garbage), 0o600))
		require.ErrorContains(t, TicketCache()(request), "ticket cache")
	}
	require.Empty(t, request.Header.Get("Authorization"))
}

func TestWebHDFSWrites(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "old"})
	s := setup(t, nil, c.name.URL)
	large := strings.Repeat("0123456789abcdef", 200_000)
	w, err := s.Create(t.Context(), file)
	require.NoError(t, err)
	for piece := range strings.SplitSeq(large, "f") {
		_, err = io.WriteString(w, piece)
		require.NoError(t, err)
	}
	content, _ := c.content(file)
	require.Equal(t, "old", content, "nothing is replaced before the commit")
	require.NoError(t, w.Commit())
	require.ErrorIs(t, w.Commit(), errEnded)
	content, _ = c.content(file)
	require.Equal(t, strings.ReplaceAll(large, "f", ""), content)
	require.Equal(t, []string{file}, c.names())
	require.Equal(t, "op=MKDIRS&permission=700", c.calls[0].URL.RawQuery)
	require.Equal(t, "op=CREATE&overwrite=true&permission=600", c.calls[1].URL.RawQuery)

	s.write(t, "/empty.zip", "")
	require.Empty(t, s.read(t, "/empty.zip"))
	require.NoError(t, s.Remove(t.Context(), "/empty.zip"))
	require.Equal(t, "op=DELETE&recursive=False", c.calls[len(c.calls)-1].URL.RawQuery)
	require.Equal(t, []string{file}, c.names())
}

func TestWebHDFSAbortedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	c := startCluster(t, map[string]string{file: "old"})
	s := setup(t, nil, c.name.URL)
	w, err := s.Create(t.Context(), file)
	require.NoError(t, err)
	_, err = io.WriteString(w, "half")
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())
	require.ErrorIs(t, w.Commit(), errEnded)
	require.Equal(t, []string{file}, c.names())
	require.Equal(t, "old", s.read(t, file))

	ctx, cancel := context.WithCancel(t.Context())
	w, err = s.Create(ctx, file)
	require.NoError(t, err)
	_, err = io.WriteString(w, "half")
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, w.Commit(), context.Canceled)
	require.Equal(t, "old", s.read(t, file))
}

func TestWebHDFSBrokenWrites(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		onData func(http.ResponseWriter, *http.Request) bool
		reason string
	}{
		"drop": {drop, "The storage server did not answer as expected"},
		"no space": {func(w http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			exception(w, http.StatusForbidden, "DSQuotaExceededException", "The DiskSpace quota is exceeded\n\tat org.apache")
			return true
		}, "The DiskSpace quota is exceeded"},
		"answers too early": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusCreated); return true }, "The storage server did not answer as expected"},
		"silent": {func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}, "The storage server did not answer as expected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl := startCluster(t, map[string]string{file: "old"})
			cl.onData = c.onData
			s := setup(t, impatient(name == "silent"), cl.name.URL)
			w, err := s.Create(t.Context(), file)
			require.NoError(t, err)
			block := bytes.Repeat([]byte("x"), 1<<20)
			for range 16 {
				if _, err = w.Write(block); err != nil {
					break
				}
			}
			if err == nil {
				err = w.Commit()
			}
			require.Error(t, err)
			require.NoError(t, w.Abort())
			require.Equal(t, c.reason, Reason(err))
			require.NotContains(t, err.Error(), "secret-token")
			content, _ := cl.content(file)
			require.Equal(t, "old", content)
		})
	}
}

func TestWebHDFSManyReadersAtOnce(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 20 {
		files["/f"+strconv.Itoa(i)] = strings.Repeat(strconv.Itoa(i), 10_000)
	}
	c := startCluster(t, files)
	s := setup(t, nil, c.name.URL)
	t.Run("readers", func(t *testing.T) {
		for name, content := range files {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				require.Equal(t, content, s.read(t, name))
			})
		}
	})
}

func TestWebHDFSAddresses(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{"http://nn:9870": "http://nn:9870", "https://gw/gateway/d%20e/": "https://gw/gateway/d%20e"} {
		u, err := url.Parse(base)
		require.NoError(t, err)
		w, ok := newWebHDFS(u, Config{}).(*webHDFS)
		require.True(t, ok)
		require.Equal(t, want+"/webhdfs/v1/x=1/a%3Bb%2Cc%2B%40%25%20%C3%A9~-_.zip?op=OPEN&offset=0", w.address("/x=1/a;b,c+@% é~-_.zip", params{{"op", "OPEN"}, {"offset", "0"}}))
	}
}
