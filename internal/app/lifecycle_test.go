package app_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/app"
	"cohortflow/internal/config"
	"cohortflow/internal/platform/queue"
)

func onFile(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "test.db") }

func TestStartIsRefusedTwice(t *testing.T) {
	t.Parallel()
	a := newApp(t, onFile(t), &failureLog{})
	require.NoError(t, a.Start(t.Context()))
	require.ErrorContains(t, a.Start(t.Context()), "started already")
	answer, err := http.Get("http://" + a.Address() + "/readyz")
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode, "the first start goes on")
	require.NoError(t, a.Stop(t.Context()))
	require.ErrorContains(t, a.Start(t.Context()), "stopped before")
}

func TestStopTwiceIsOnce(t *testing.T) {
	t.Parallel()
	t.Run("AtTheSameTime", func(t *testing.T) {
		t.Parallel()
		a := newApp(t, onFile(t), &failureLog{})
		require.NoError(t, a.Start(t.Context()))
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := a.Stop(context.Background()); err != nil {
					t.Error(err)
				}
				if a.Inspect(context.Background()) == nil { // also whoever came second has waited
					t.Error("the database is still open")
				}
			})
		}
		all.Wait()
		require.NoError(t, a.Stop(t.Context()))
	})
	t.Run("WithoutStart", func(t *testing.T) {
		t.Parallel()
		a := newApp(t, onFile(t), &failureLog{})
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, a.Stop(t.Context()))
	})
	t.Run("AfterAStartThatFailed", func(t *testing.T) {
		t.Parallel()
		var config net.ListenConfig
		taken, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, taken.Close()) })
		a := newApp(t, onFile(t), &failureLog{}, "ADDR="+taken.Addr().String())
		require.ErrorContains(t, a.Start(t.Context()), "another address: ADDR")
		require.Error(t, a.Inspect(t.Context()), "all is closed")
		require.NoError(t, a.Stop(t.Context()))
	})
	t.Run("OnADatabaseThatIsNotReady", func(t *testing.T) {
		t.Parallel()
		cfg, err := config.Load([]string{"DATABASE_URL=" + onFile(t), "DJANGO_SECRET_KEY=secret", "JWT_SIGNING_KEY=signing", "PERIMETER_TYPES=CHU"})
		require.NoError(t, err)
		a, err := app.New(t.Context(), cfg, app.Options{Log: slog.New(slog.DiscardHandler), Roles: app.Roles{API: true}, Embedded: queue.NewEmbedded()})
		require.NoError(t, err)
		require.ErrorContains(t, a.Start(t.Context()), "not ready for this program")
		require.NoError(t, a.Stop(t.Context()))
	})
}
