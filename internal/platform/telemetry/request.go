package telemetry

import (
	"context"
	"log/slog"
)

// Request is what each line logged for a request tells of it, under the names by which existing collectors know it
// (system.md 14.2).
type Request struct {
	TraceID string
	// User is whose token the request carries; "" for nobody.
	User string
	// Impersonating is the user as whom it runs, if that is another.
	Impersonating string
}

type requestKey struct{}

// WithRequest has what is logged with the context say for which request it was.
func WithRequest(ctx context.Context, r Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// requestHandler adds the request of the context to each line.
type requestHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, line slog.Record) error {
	if r, ok := ctx.Value(requestKey{}).(Request); ok {
		line = line.Clone()
		line.AddAttrs(slog.String("x_traceId", r.TraceID))
		if r.User != "" {
			line.AddAttrs(slog.String("x_userId", r.User))
		}
		if r.Impersonating != "" {
			line.AddAttrs(slog.String("x_impersonating", r.Impersonating))
		}
	}
	return h.Handler.Handle(ctx, line)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}
