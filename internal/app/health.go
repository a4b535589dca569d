package app

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// requestTimeout bounds the checks of /readyz: an orchestrator's probe must get an answer, not a time-out of its own.
const requestTimeout = 2 * time.Second

// readiness tells whether this process can work: its database answers and has the schema of this release, and it is not
// being stopped. Redis is an accelerator: without it requests are served and work waits for the relay, which the answer tells.
func (a *App) readiness(ctx context.Context) (status int, answer map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status, answer = http.StatusOK, map[string]string{"database": "ok", "schema": "ok", "redis": "ok"}
	if a.stopping.Load() {
		status, answer["process"] = http.StatusServiceUnavailable, "stopping"
	}
	if err := a.db.Ping(ctx); err != nil {
		status, answer["database"], answer["schema"] = http.StatusServiceUnavailable, "down", "unknown"
	} else if current, err := database.Current(ctx, a.db); err != nil || !current {
		status, answer["schema"] = http.StatusServiceUnavailable, "not ready"
	}
	if err := a.queue.Check(ctx); err != nil {
		answer["redis"] = "down"
	}
	return status, answer
}

// readyz answers on the API's listener.
func (a *App) readyz(c *gin.Context) {
	status, answer := a.readiness(c.Request.Context())
	web.JSON(c, status, answer)
}

// sideHandler serves metrics, and health for processes that have no API.
func (a *App) sideHandler() http.Handler {
	a.figures()
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, answer := a.readiness(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // the prober may be gone
	})
	return mux
}
