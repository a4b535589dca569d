package export

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// listing is a list of which a page is read.
type listing struct {
	what    string   // its rows, in errors
	query   *gorm.DB // all of them
	columns string   // of a row; "" for all
	preload string   // what hangs on a row; "" for nothing
	// order is what was asked for; by has the columns of its names. last orders what is equal in it.
	order []web.Order
	by    map[string]string
	last  string
}

// listed is a page of a list.
type listed[R any] struct {
	rows  []R
	total int64
	page  web.Page
}

// pageOf counts the rows of a list and reads a page of them: two queries, or one when there is nothing on the page.
func pageOf[R any](l listing, p web.Page) (f listed[R], err error) {
	q := l.query.Session(&gorm.Session{})
	if err := q.Count(&f.total).Error; err != nil {
		return f, fmt.Errorf("count %s: %w", l.what, err)
	}
	if f.page, err = p.Fit(f.total); err != nil || f.page.Past(f.total) {
		return f, err
	}
	if l.columns != "" {
		q = q.Select(l.columns)
	}
	if l.preload != "" {
		q = q.Preload(l.preload)
	}
	for _, o := range l.order {
		q = q.Order(database.OrderBy(l.by[o.Name], o.Desc))
	}
	if err := q.Order(l.last).Limit(f.page.Limit).Offset(f.page.Offset).Find(&f.rows).Error; err != nil {
		return f, fmt.Errorf("list %s: %w", l.what, err)
	}
	return f, nil
}

// envelope answers a page, each row in the form that clients see.
func envelope[R, V any](c *gin.Context, f listed[R], view func(R) V) {
	views := make([]V, len(f.rows))
	for i, row := range f.rows {
		views[i] = view(row)
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, f.page, f.total, views))
}

// answerOne answers the row that the path names, in the form that clients see.
func answerOne[R, V any](c *gin.Context, find func(ctx context.Context, id uuid.UUID) (R, error), view func(R) V) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	row, err := find(c.Request.Context(), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, view(row))
	return nil
}
