// Package requestlog keeps a row for every request that changes something, signs somebody in or downloads data, refused ones
// included, and shows the rows to full admins (contract: system.md, section 6). A row names the user as whom the request
// ran and, if that was another, who was behind it. web calls it after each answered request of a route that has a View.
// No row ever holds a password, a token or an answer.
package requestlog

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// Row is one of rest_framework_tracking_apirequestlog (schema.md 6.2).
type Row struct {
	ID                 int64 `gorm:"primaryKey"`
	UserID             *string
	UsernamePersistent *string
	RequestedAt        time.Time
	ResponseMs         int64
	Path               string
	View               *string
	ViewMethod         *string
	RemoteAddr         *string
	Host               string
	Method             string
	UserAgent          string
	QueryParams        *string
	Data               *string
	Response           *string
	Errors             *string
	StatusCode         *int
}

// TableName implements gorm's Tabler.
func (Row) TableName() string { return "rest_framework_tracking_apirequestlog" }

// Log writes and reads the rows.
type Log struct {
	db    *database.DB
	clock clock.Clock
	log   *slog.Logger
}

// New keeps what it is given.
func New(db *database.DB, clk clock.Clock, log *slog.Logger) *Log {
	return &Log{db: db, clock: clk, log: log}
}

// Record is web.Config.Record. A row that cannot be written never fails the request, which is already answered; the client
// may even have hung up, so the row is written under a context of its own.
func (l *Log) Record(c *gin.Context, r web.Route, started time.Time) {
	if web.Failed(c) {
		return // as before: uncaught errors leave no row, they are in the server's log
	}
	row := l.rowOf(c, r, started, c.Writer.Status())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), 5*time.Second)
	defer cancel()
	err := l.db.Update(ctx, func(tx *database.Tx) error { return insert(tx.DB, &row) })
	if err != nil {
		l.log.WarnContext(ctx, "a request could not be logged", "route", r.Path, "error", err)
	}
}

func insert(tx *gorm.DB, row *Row) error {
	if err := tx.Create(row).Error; err != nil {
		return fmt.Errorf("write a request log row: %w", err)
	}
	return nil
}

func (l *Log) rowOf(c *gin.Context, r web.Route, started time.Time, status int) Row {
	row := Row{
		RequestedAt: clock.Normalize(started), ResponseMs: max(0, time.Since(started).Milliseconds()), Path: cut(c.Request.URL.Path, 200),
		View: &r.View, ViewMethod: &r.Action, RemoteAddr: new(remoteAddr(c.Request)), Host: cut(c.Request.Host, 200), Method: cut(c.Request.Method, 10),
		UserAgent: cut(c.Request.UserAgent(), 255), StatusCode: &status,
	}
	row.setCaller(identity.CallerOf(c))
	row.Errors = brokenOff(c)
	data := dataOf(c)
	row.Data, row.QueryParams = &data, &data
	if query := c.Request.URL.Query(); len(query) > 0 {
		object := map[string]any{}
		for key, values := range query {
			object[key] = values[len(values)-1]
		}
		text := masked(object)
		row.QueryParams = &text
	}
	return row
}

// setCaller tells who asked. The columns for users hold the effective one (system.md 6.1); who was behind it stands in the
// column of answers, which has been empty since the old system stopped storing them, in the form of an answer: so the
// portal shows it, the API lists it among the related names, and the filter on answers finds it.
func (r *Row) setCaller(caller identity.Caller) {
	name := "Anonymous"
	switch {
	case caller.Authenticated():
		r.UserID, name = &caller.Username, caller.Username
		if caller.RealUsername != "" && caller.RealUsername != caller.Username {
			r.Response = note("impersonator_username", caller.RealUsername)
		}
	case caller.RefusedTarget != "":
		r.UserID, name = &caller.RealUsername, caller.RealUsername
		r.Response = note("refused_target_username", caller.RefusedTarget)
	case caller.RealUsername != "": // a name that an identity provider vouches for, without an account here
		name = cut(caller.RealUsername, 200)
	}
	r.UsernamePersistent = &name
}

func note(name, username string) *string {
	return new(text(map[string]string{name: storable(username)}))
}

// brokenOff tells of an answer that was not sent whole: a download that the client or a storage gave up. Its status had
// been sent before.
func brokenOff(c *gin.Context) *string {
	announced, err := strconv.Atoi(c.Writer.Header().Get("Content-Length"))
	if sent := max(0, c.Writer.Size()); err == nil && sent < announced {
		return new(fmt.Sprintf("The answer broke off after %d of %d bytes.", sent, announced))
	}
	return nil
}

// dataOf is the body that the handler read, with secrets masked; nothing at all if it never came to reading it.
func dataOf(c *gin.Context) string {
	body, read := web.ReadBody(c)
	if !read {
		return "{}"
	}
	return masked(body)
}

// secretKeys are masked wherever they stand (system.md 6.1); a code of an identity provider is one too.
var secretKeys = map[string]bool{"api": true, "token": true, "key": true, "secret": true, "password": true, "signature": true,
	"refresh_token": true, "access_token": true, "auth_code": true, "code_verifier": true}

const mask = "********************"

// longest is where a stored body is cut: a query of a few hundred kilobytes is of no use in a log.
const longest = 10_000

func masked(object map[string]any) string {
	return cut(text(maskValue(object)), longest)
}

// text is the JSON of a value as people read it and search in it: a < is a <.
func text(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if enc.Encode(v) != nil {
		return "{}"
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func maskValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			if secretKeys[strings.ToLower(key)] {
				out[key] = mask
				continue
			}
			out[key] = maskValue(value)
		}
		return out
	case web.Object:
		return maskValue(map[string]any(v))
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = maskValue(v[i])
		}
		return out
	}
	return v
}

// remoteAddr is the first address of X-Forwarded-For, or the peer's, without a port; 127.0.0.1 stands for what is none,
// since the column takes addresses only.
func remoteAddr(r *http.Request) string {
	text := r.RemoteAddr
	if forwarded := r.Header.Get("X-Forwarded-For"); forwarded != "" {
		text = strings.TrimSpace(strings.Split(forwarded, ",")[0])
	}
	if host, _, err := net.SplitHostPort(text); err == nil {
		text = host
	}
	if net.ParseIP(text) == nil {
		return "127.0.0.1"
	}
	return text
}

// storable leaves out what a text column cannot hold.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
}

func cut(text string, n int) string {
	text = storable(text)
	if r := []rune(text); len(r) > n {
		return string(r[:n])
	}
	return text
}
