package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// exportTables are exported: the patients first, then what the query asked about.
func exportTables() []string { return []string{"person", "visit_occurrence", "condition_occurrence"} }

// exportFile is one export of the demo.
type exportFile struct {
	format string
	read   func(archive []byte) ([]table, error)
	asked  time.Time
	tables []table

	UUID     string `json:"uuid"`
	Status   string `json:"request_job_status"`
	FailMsg  string `json:"request_job_fail_msg"`
	Name     string `json:"target_name"`
	Location string `json:"target_location"`
}

// export has the cohort exported as CSV and as XLSX, downloads both, and looks into them.
func (p *player) export(ctx context.Context) error {
	p.exports = []*exportFile{{format: "csv", read: readCSV}, {format: "xlsx", read: readXLSX}}
	for _, e := range p.exports {
		if err := p.askExport(ctx, e); err != nil {
			return err
		}
	}
	for _, e := range p.exports {
		if err := p.awaitExport(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.format, err)
		}
		if err := p.fetch(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.format, err)
		}
	}
	for i, t := range p.exports[0].tables {
		if other := p.exports[1].tables[i]; other.rows != t.rows {
			return fmt.Errorf("the table %s has %d rows as CSV and %d as XLSX", t.name, t.rows, other.rows)
		}
	}
	return nil
}

// askExport sends what the front-end's form sends.
func (p *player) askExport(ctx context.Context, e *exportFile) error {
	var tables []fields
	for _, name := range exportTables() {
		tables = append(tables, fields{"table_name": name, "cohort_result_source": p.small.UUID, "respect_table_relationships": true, "columns": nil})
	}
	e.asked = p.cfg.Clock.Now()
	err := p.api.post(ctx, "/exports/", fields{"motivation": "Demonstration of the workflow", "export_tables": tables, "nominative": true,
		"shift_date": false, "output_format": e.format, "group_tables": false}, e)
	var other *unexpected
	if errors.As(err, &other) && other.got == http.StatusNotFound {
		return fmt.Errorf("this server offers no exports: %w", err)
	}
	if err != nil {
		return err
	}
	p.jobs = append(p.jobs, job{kind: "export", subject: e.UUID})
	return nil
}

// awaitExport asks until the export has ended: the websocket does not tell of exports.
func (p *player) awaitExport(ctx context.Context, e *exportFile) error {
	for !final(e.Status) {
		if err := pause(ctx, nil, p.wait.poll); err != nil {
			return fmt.Errorf("wait for the end of the export (last seen as %q): %w", e.Status, err)
		}
		if err := p.api.get(ctx, "/exports/"+e.UUID+"/", e); err != nil && ctx.Err() == nil {
			return err // else the time is over: the next pause says what for
		}
	}
	if e.Status != "finished" {
		return fmt.Errorf("the export is %s: %s", e.Status, e.FailMsg)
	}
	p.out.line(e.format, "finished after %s", p.since(e.asked))
	return nil
}

// fetch downloads the file and checks it.
func (p *player) fetch(ctx context.Context, e *exportFile) error {
	name, content, err := p.api.download(ctx, "/exports/"+e.UUID+"/download/")
	if err != nil {
		return err
	}
	if want := "export_" + p.small.GroupID + ".zip"; name != want {
		return fmt.Errorf("the file is called %s, not %s", name, want)
	}
	path := strings.TrimSuffix(e.Location, "/") + "/" + e.Name + ".zip"
	if p.cfg.Stored != nil {
		size, err := p.cfg.Stored(path)
		if err != nil {
			return fmt.Errorf("look for %s in the storage: %w", path, err)
		}
		if size != int64(len(content)) {
			return fmt.Errorf("%d bytes are stored as %s, but %d were downloaded", size, path, len(content))
		}
	}
	found, err := e.read(content)
	if err != nil {
		return err
	}
	if e.tables, err = checkTables(found, exportTables(), *p.small.Size); err != nil {
		return err
	}
	p.out.line("", "%s, %d bytes, downloaded as %s", path, len(content), name)
	var rows [][]string
	for _, t := range e.tables {
		rows = append(rows, []string{t.name, strconv.Itoa(t.rows) + " rows", strconv.Itoa(t.columns) + " columns"})
	}
	p.out.rows("", rows)
	return nil
}
