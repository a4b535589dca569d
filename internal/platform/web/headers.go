package web

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

// headers sets those that are on every answer (system.md 2.10).
func headers(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Vary", "Accept, origin")
}

const (
	corsHeaders = "access-control-allow-origin, content-type, Authorization, X-CSRFToken, authorizationmethod, x-impersonate, x-trace-id"
	corsMethods = "DELETE, GET, OPTIONS, PATCH, POST, PUT"
)

// cors answers preflights and names allowed origins (system.md 2.11); it comes before the gate, so that a browser can
// read a refusal.
func (s *Server) cors(c *gin.Context) {
	origin := c.GetHeader("Origin")
	allowed := origin != "" && slices.Contains(s.cfg.Origins, origin)
	if allowed {
		c.Header("access-control-allow-origin", origin)
	}
	if c.Request.Method != http.MethodOptions || c.GetHeader("Access-Control-Request-Method") == "" {
		return
	}
	if allowed {
		c.Header("access-control-allow-headers", corsHeaders)
		c.Header("access-control-allow-methods", corsMethods)
		c.Header("access-control-max-age", "86400")
	}
	c.Header("Content-Length", "0")
	c.AbortWithStatus(http.StatusOK)
}

// acceptable negotiates the answer's type (system.md 2.3): JSON, also for browsers that prefer HTML.
func acceptable(c *gin.Context) error {
	if format := c.Query("format"); format != "" && format != "json" {
		return fault.NotFound{}
	}
	accept := c.GetHeader("Accept")
	if accept == "" || c.Query("format") == "json" {
		return nil
	}
	for _, item := range strings.Split(accept, ",") {
		kind, _, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		switch kind {
		case "*/*", "application/*", "application/json", "text/*", "text/html", "application/zip", "application/octet-stream", "text/csv":
			return nil
		}
	}
	return fault.Detail(http.StatusNotAcceptable, "Could not satisfy the request Accept header.")
}
