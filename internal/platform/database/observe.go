package database

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// observers are told of each statement that gorm runs.
type observers struct {
	mu    sync.RWMutex
	next  int
	funcs map[int]func(sql string)
	count atomic.Int32
}

// OnStatement calls f with the text of each statement (without its values) from now on, until stop is called: for tests that
// count queries, and for metrics. f may be called by many goroutines at once, and must not use the database.
func (db *DB) OnStatement(f func(sql string)) (stop func()) {
	o := db.statements
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.funcs == nil {
		o.funcs = map[int]func(string){}
	}
	id := o.next
	o.next++
	o.funcs[id] = f
	o.count.Store(int32(len(o.funcs)))
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.funcs, id)
		o.count.Store(int32(len(o.funcs)))
	}
}

func (o *observers) tell(sql string) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, f := range o.funcs {
		f(sql)
	}
}

// observedLogger is gorm's logger with observers: gorm tells it, and only it, of every statement.
type observedLogger struct {
	logger.Interface
	observers *observers
}

// Trace implements logger.Interface.
func (l observedLogger) Trace(ctx context.Context, begin time.Time, fc func() (string, int64), err error) {
	if l.observers.count.Load() > 0 {
		sql, _ := fc()
		l.observers.tell(sql)
	}
	if errors.Is(err, gorm.ErrDuplicatedKey) || errors.Is(err, context.Canceled) {
		err = nil // outcomes that callers expect; only their slowness is worth a line
	}
	l.Interface.Trace(ctx, begin, fc, err)
}

// LogMode implements logger.Interface.
func (l observedLogger) LogMode(level logger.LogLevel) logger.Interface {
	return observedLogger{l.Interface.LogMode(level), l.observers}
}

// ParamsFilter implements gorm.ParamsFilter, which gorm looks for on the logger itself.
func (l observedLogger) ParamsFilter(ctx context.Context, sql string, params ...any) (string, []any) {
	return sql, nil
}
