package app

import (
	"context"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/answercache"
	"cohortflow/internal/platform/web"
)

// buildAnswers makes the cache of answers, where it is switched on (system.md 9).
func (a *App) buildAnswers(*parts) (err error) {
	if !a.cfg.System.EnableCache || a.cfg.System.SecretKey == "" { // without a secret nothing is served
		return nil
	}
	a.answers, err = answercache.New(answercache.Config{Redis: a.queue.Redis(), Secret: a.cfg.System.SecretKey.Reveal(), Log: a.log,
		User: func(c *gin.Context) string { return identity.CallerOf(c).Username }})
	return err
}

// cache is web's Config.Cache; nil when nothing is kept.
func (a *App) cache() func(*gin.Context, web.Route, func(*gin.Context) error) error {
	if a.answers == nil {
		return nil
	}
	return a.answers.Around
}

func (a *App) cacheRoutes() web.Table {
	if a.answers == nil {
		return web.NoCache()
	}
	return web.CacheRoutes(a.answers)
}

// changed tells the cache of a change that no request has made.
func (a *App) changed(ctx context.Context, groups ...answercache.Group) {
	if a.answers != nil {
		a.answers.Changed(ctx, groups...)
	}
}
