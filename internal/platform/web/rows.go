package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
)

// Rows are the handlers of numbered rows that are listed by page (system.md 2.5 A): what reading, writing and showing one
// means is told by functions, all else is the same for every kind of row. A capability leaves out what it does not offer.
type Rows[R any] struct {
	// Page reads the query, and gives one page of what it asks for.
	Page func(c *gin.Context, page Page) (rows []R, total int64, fitted Page, err error)
	Get  func(ctx context.Context, id int64) (R, error)
	// Create and Change validate the body; Change is given the fields to change alone.
	Create func(ctx context.Context, body Object) (R, error)
	Change func(ctx context.Context, id int64, body Object) (R, error)
	Delete func(ctx context.Context, id int64) error
	// View is a row as the API shows it.
	View func(row R) any
}

// Number reads a path parameter that is the id of a row; what is no such number is a 404 (system.md 2.8).
func Number(c *gin.Context, name string) (int64, error) {
	id, err := strconv.ParseInt(c.Param(name), 10, 32)
	if err != nil {
		return 0, fault.NotFound{}
	}
	return id, nil
}

// DoList answers with a page.
func (r Rows[R]) DoList(c *gin.Context) error {
	page, err := NumberedPage(c)
	if err != nil {
		return err
	}
	rows, total, page, err := r.Page(c, page)
	if err != nil {
		return err
	}
	views := make([]any, len(rows))
	for i, row := range rows {
		views[i] = r.View(row)
	}
	JSON(c, http.StatusOK, Envelope(c, page, total, views))
	return nil
}

// DoGet answers with the row of the path's id.
func (r Rows[R]) DoGet(c *gin.Context) error {
	return r.numbered(c, func(id int64) (R, error) { return r.Get(c.Request.Context(), id) })
}

// DoCreate makes a row of the body.
func (r Rows[R]) DoCreate(c *gin.Context) error {
	body, err := Body(c)
	if err != nil {
		return err
	}
	row, err := r.Create(c.Request.Context(), body)
	return r.answer(c, http.StatusCreated, row, err)
}

// DoChange changes the row of the path's id by the body.
func (r Rows[R]) DoChange(c *gin.Context) error {
	return r.numbered(c, func(id int64) (row R, err error) {
		body, err := Body(c)
		if err != nil {
			return row, err
		}
		return r.Change(c.Request.Context(), id, body)
	})
}

// DoDelete deletes the row of the path's id.
func (r Rows[R]) DoDelete(c *gin.Context) error {
	id, err := Number(c, "id")
	if err != nil {
		return err
	}
	if err := r.Delete(c.Request.Context(), id); err != nil {
		return err
	}
	Empty(c, http.StatusNoContent)
	return nil
}

func (r Rows[R]) numbered(c *gin.Context, do func(id int64) (R, error)) error {
	id, err := Number(c, "id")
	if err != nil {
		return err
	}
	row, err := do(id)
	return r.answer(c, http.StatusOK, row, err)
}

func (r Rows[R]) answer(c *gin.Context, status int, row R, err error) error {
	if err != nil {
		return err
	}
	JSON(c, status, r.View(row))
	return nil
}
