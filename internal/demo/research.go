package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// row is what the API shows of anything that was created.
type row struct {
	UUID string `json:"uuid"`
}

// signIn signs in, opens the websocket, and writes a query into a folder and a request of its own.
func (p *player) signIn(ctx context.Context) (err error) {
	if p.api, p.me, err = signIn(ctx, p.cfg.BaseURL, p.cfg.HTTP, p.cfg.Researcher); err != nil {
		return err
	}
	p.out.line("researcher", "%s", p.me.DisplayName)
	if p.me.Email == "" {
		return errors.New("the researcher has no mail address, and could not be told about results")
	}
	p.mailsBefore = len(p.cfg.Mails(p.me.Email))
	if p.socket, err = openSocket(ctx, p.api); err != nil {
		return err
	}
	p.out.line("websocket", "open, greeting accepted")
	if err := p.hospital(ctx); err != nil {
		return err
	}
	if p.query, err = narrowQuery(p.cfg.CaresiteCohortID); err != nil {
		return err
	}
	p.request, p.snapshot, err = p.ask(ctx, "Demo "+p.stamp, p.query)
	return err
}

// hospital shows what the researcher may read in the hospital.
func (p *player) hospital(ctx context.Context) error {
	var page struct {
		Results []struct {
			Nominative bool `json:"right_read_patient_nominative"`
			Perimeter  struct {
				Name string `json:"name"`
				Type string `json:"type"`
			} `json:"perimeter"`
		} `json:"results"`
	}
	path := "/accesses/perimeters/patient-data/rights/?limit=-1&cohort_id=" + url.QueryEscape(p.cfg.CaresiteCohortID)
	if err := p.api.get(ctx, path, &page); err != nil {
		return err
	}
	if len(page.Results) != 1 {
		return fmt.Errorf("the researcher has rights on %d perimeters with virtual cohort %s, not on one", len(page.Results), p.cfg.CaresiteCohortID)
	}
	mode := "pseudonymised"
	if page.Results[0].Nominative {
		mode = "nominative"
	}
	p.out.line("perimeter", "%s, %s", page.Results[0].Perimeter.Name, mode)
	return nil
}

// ask makes a folder, a request in it, and the first snapshot of the request.
func (p *player) ask(ctx context.Context, name, query string) (request, snapshot string, err error) {
	request, snapshot, err = p.api.ask(ctx, name, query)
	if err == nil {
		p.out.line("written", "folder, request and query snapshot %q", name)
	}
	return request, snapshot, err
}

func (c *client) ask(ctx context.Context, name, query string) (request, snapshot string, err error) {
	var folder, asked, snap row
	if err := c.post(ctx, "/cohort/folders/", fields{"name": name}, &folder); err != nil {
		return "", "", err
	}
	err = c.post(ctx, "/cohort/requests/", fields{"uuid": "", "name": name, "parent_folder": folder.UUID}, &asked)
	if err != nil {
		return "", "", err
	}
	err = c.post(ctx, "/cohort/request-query-snapshots/", fields{"request_id": asked.UUID, "serialized_query": query}, &snap)
	if err != nil {
		return "", "", err
	}
	if folder.UUID == "" || asked.UUID == "" || snap.UUID == "" {
		return "", "", errors.New("something was created without a uuid")
	}
	return asked.UUID, snap.UUID, nil
}

// count asks for a count of a snapshot.
func (c *client) count(ctx context.Context, request, snapshot string, into any) error {
	return c.post(ctx, "/cohort/dated-measures/", fields{"request_query_snapshot_id": snapshot, "request_id": request, "stageDetails": nil}, into)
}

// create asks for a cohort of what was counted.
func (c *client) create(ctx context.Context, request, snapshot, measure, name string, into any) error {
	return c.post(ctx, "/cohort/cohorts/", fields{"dated_measure_id": measure, "request_query_snapshot_id": snapshot,
		"request_id": request, "name": name, "description": "", "global_estimate": false}, into)
}

// measure is a count.
type measure struct {
	UUID    string `json:"uuid"`
	Status  string `json:"request_job_status"`
	FailMsg string `json:"request_job_fail_msg"`
	Measure *int   `json:"measure"`
	Limit   int    `json:"cohort_limit"`
}

// count counts the patients of the query and compares the number with the truth.
func (p *player) count(ctx context.Context) error {
	p.out.line("query", "%s", narrowWords)
	m, err := p.countOne(ctx, p.request, p.snapshot, p.query)
	if err != nil {
		return err
	}
	switch n := *m.Measure; {
	case n == 0:
		return errors.New("the query of the demo finds nobody in this hospital")
	case n >= p.cfg.SizeLimit:
		return fmt.Errorf("the query of the demo finds %d patients: an ordinary cohort must have fewer than the size limit, %d", n, p.cfg.SizeLimit)
	}
	p.small = cohort{name: "Demo cohort " + p.stamp, snapshot: p.snapshot, request: p.request, measure: m}
	return nil
}

// countOne has a snapshot counted and waits for the number.
func (p *player) countOne(ctx context.Context, request, snapshot, query string) (m measure, err error) {
	started := p.cfg.Clock.Now()
	if err := p.api.count(ctx, request, snapshot, &m); err != nil {
		return m, err
	}
	if m.Limit != p.cfg.SizeLimit {
		return m, fmt.Errorf("the server's size limit of cohorts is %d, the demo was told %d", m.Limit, p.cfg.SizeLimit)
	}
	p.jobs = append(p.jobs, job{kind: "count", subject: m.UUID})
	told, by, err := p.ended(ctx, "count", m.UUID, func(ctx context.Context) (string, error) {
		err := p.api.get(ctx, "/cohort/dated-measures/"+m.UUID+"/", &m)
		return m.Status, err
	})
	switch {
	case err != nil:
		return m, err
	case m.Status != "finished" || m.Measure == nil:
		return m, fmt.Errorf("the count is %s: %s", m.Status, m.FailMsg)
	case told != nil && (told.Status != m.Status || told.Info.Measure == nil || *told.Info.Measure != *m.Measure):
		return m, errors.New("the websocket told another result than the API")
	}
	p.out.line("count", "%d patients, after %s, told by %s", *m.Measure, p.since(started), by)
	truth, err := p.cfg.Evaluate(ctx, query)
	if err != nil {
		return m, fmt.Errorf("find out the true count: %w", err)
	}
	if truth != *m.Measure {
		return m, fmt.Errorf("the count is %d, but %d of the generated patients fit", *m.Measure, truth)
	}
	p.out.line("truth", "%d of the generated patients fit: equal", truth)
	return m, nil
}

// ended waits until the websocket tells the end of a job about a row; where it does not, the row itself is read. In the end
// refresh has read the row in any case. told is nil when the websocket was silent, by says who told.
func (p *player) ended(ctx context.Context, what, uuid string, refresh func(ctx context.Context) (status string, err error)) (told *message, by string, err error) {
	quiet, cancel := context.WithTimeout(ctx, p.wait.quiet)
	defer cancel()
	status := ""
	for {
		m, came, arrived, _ := p.socket.last(uuid)
		if came {
			status, err = refresh(ctx)
			if err == nil && !final(status) {
				err = fmt.Errorf("the websocket told that the %s is %s, but the API that it is %s", what, m.Status, status)
			}
			return &m, "the websocket", err
		}
		if quiet.Err() != nil && ctx.Err() == nil {
			now, err := refresh(ctx)
			if err != nil && ctx.Err() == nil || err == nil && final(now) {
				return nil, "the API", err
			}
			status = cmp.Or(now, status)
		}
		if err := pause(ctx, arrived, p.wait.poll); err != nil {
			return nil, "", fmt.Errorf("wait for the end of the %s (last seen as %q): %w", what, status, err)
		}
	}
}

// cohort is one that the demo creates, with what it is made of.
type cohort struct {
	name, snapshot, request string
	measure                 measure

	UUID    string `json:"uuid"`
	Status  string `json:"request_job_status"`
	FailMsg string `json:"request_job_fail_msg"`
	GroupID string `json:"group_id"`
	Size    *int   `json:"result_size"`
}

func (p *player) createCohorts(ctx context.Context) error {
	if err := p.create(ctx, &p.small, false); err != nil {
		return err
	}
	query, err := broadQuery(p.cfg.RootCohortID)
	if err != nil {
		return err
	}
	p.out.line("query", "%s", broadWords)
	name := "Demo large " + p.stamp
	request, snapshot, err := p.ask(ctx, name, query)
	if err != nil {
		return err
	}
	m, err := p.countOne(ctx, request, snapshot, query)
	if err != nil {
		return err
	}
	if *m.Measure < p.cfg.SizeLimit {
		return fmt.Errorf("the whole institution has %d patients: fewer than the size limit, %d, so that no cohort is large", *m.Measure, p.cfg.SizeLimit)
	}
	p.large = cohort{name: name, snapshot: snapshot, request: request, measure: m}
	return p.create(ctx, &p.large, true)
}

// longPending is how a large cohort waits for the indexer.
const longPending = "long_pending"

// create has a cohort made of a count and waits for it. A large one has to show at first that it takes long.
func (p *player) create(ctx context.Context, c *cohort, large bool) error {
	started := p.cfg.Clock.Now()
	if err := p.api.create(ctx, c.request, c.snapshot, c.measure.UUID, c.name, c); err != nil {
		return err
	}
	p.jobs = append(p.jobs, job{kind: "create", subject: c.UUID})
	refresh := func(ctx context.Context) (string, error) {
		err := p.api.get(ctx, "/cohort/cohorts/"+c.UUID+"/", c)
		return c.Status, err
	}
	if _, err := refresh(ctx); err != nil {
		return err
	}
	first := c.Status
	if p.wasLong(c.UUID) {
		first = longPending
	}
	if large && first != longPending {
		return fmt.Errorf("a cohort of %d patients is %s, not %s, although %d are large", *c.measure.Measure, first, longPending, p.cfg.SizeLimit)
	}
	told, by, err := p.ended(ctx, "cohort", c.UUID, refresh)
	if err != nil {
		return err
	}
	if err := c.check(told); err != nil {
		return err
	}
	p.out.line("cohort", "%q: %s, then %s after %s, told by %s", c.name, first, c.Status, p.since(started), by)
	p.out.line("", "%d patients, list %s", *c.Size, c.GroupID)
	return nil
}

// wasLong tells whether the websocket told that a cohort takes long: it may have ended before it could be read.
func (p *player) wasLong(uuid string) bool {
	all, _, _ := p.socket.about(uuid)
	return slices.ContainsFunc(all, func(m message) bool { return m.Status == longPending })
}

// check compares a cohort that has ended with its count and with what the websocket told.
func (c *cohort) check(told *message) error {
	switch {
	case c.Status != "finished":
		return fmt.Errorf("the cohort %q is %s: %s", c.name, c.Status, c.FailMsg)
	case c.GroupID == "":
		return fmt.Errorf("the cohort %q is finished, but has no list of patients", c.name)
	case c.Size == nil || *c.Size != *c.measure.Measure:
		return fmt.Errorf("the cohort %q does not have the %d patients that were counted", c.name, *c.measure.Measure)
	case told != nil && (told.JobName != "create" || told.Info.GroupID != c.GroupID):
		return errors.New("the websocket told another result than the API")
	}
	return nil
}
