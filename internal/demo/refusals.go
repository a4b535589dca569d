package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// refusals tries what must not work: somebody else's row, a query that is none, a report without the right key.
func (p *player) refusals(ctx context.Context) error {
	admin, _, err := signIn(ctx, p.cfg.BaseURL, p.cfg.HTTP, p.cfg.Admin)
	if err != nil {
		return err
	}
	var folder row
	if err := admin.post(ctx, "/cohort/folders/", fields{"name": "Admin " + p.stamp}, &folder); err != nil {
		return err
	}
	stranger := &client{base: p.api.base, http: p.api.http, token: "no-key-of-this-system"}
	count := "/cohort/dated-measures/" + p.small.measure.UUID + "/"
	for _, try := range []struct {
		what   string
		as     *client
		method string
		path   string
		body   fields
		want   int
	}{
		{"somebody else's folder", p.api, http.MethodGet, "/cohort/folders/" + folder.UUID + "/", nil, http.StatusNotFound},
		{"a snapshot of no query", p.api, http.MethodPost, "/cohort/request-query-snapshots/",
			fields{"previous_snapshot_id": p.snapshot, "serialized_query": "{"}, http.StatusBadRequest},
		{"a report with a wrong key", stranger, http.MethodPatch, count,
			fields{"request_job_status": "FINISHED", "count": "1", "extra": fields{}}, http.StatusForbidden},
	} {
		if err := try.as.call(ctx, try.method, try.path, try.body, try.want, nil); err != nil {
			return fmt.Errorf("%s: %w", try.what, err)
		}
		p.out.line("refused", "%d  %s", try.want, try.what)
	}
	var after measure
	if err := p.api.get(ctx, count, &after); err != nil {
		return err
	}
	if after.Measure == nil || *after.Measure != *p.small.measure.Measure {
		return errors.New("a report with a wrong key changed the count")
	}
	return admin.call(ctx, http.MethodDelete, "/cohort/folders/"+folder.UUID+"/", nil, http.StatusNoContent, nil)
}
