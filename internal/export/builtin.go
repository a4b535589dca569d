package export

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cohortflow/internal/fhir"
)

// Source is where the built-in exporter reads: *fhir.Client, with the credential of the service.
type Source interface {
	Search(ctx context.Context, s fhir.Search) iter.Seq2[json.RawMessage, error]
	Scan(ctx context.Context, s fhir.Search, to fhir.Scanner) error
}

// pageSize is the _count of searches.
const pageSize = 1000

// idsPerSearch bounds the addresses of searches by _id.
const idsPerSearch = 100

// plan is what one run writes.
type plan struct {
	format string // csv, xlsx
	name   string // of the workbook inside of the archive
	// grouped joins all tables with the persons into one.
	grouped bool
	person  planned
	others  []planned
}

// planned is one table of a plan.
type planned struct {
	table   *table
	title   string
	columns []column
	// group is the list that the rows belong to, "" for tables about nobody.
	group string
	// filter restricts the rows further, in FHIR's own terms.
	filter string
	// relate is a further list to which the patients of the rows must belong; "": none.
	relate string
	// questionnaires restricts responses to these.
	questionnaires []string
}

func (p planned) header() []string {
	names := make([]string, len(p.columns))
	for i, c := range p.columns {
		names[i] = c.name
	}
	return names
}

// message is what goes from the reader to the writer: the beginning of a table, or rows of it.
type message struct {
	title  string
	header []string
	rows   *batch
}

// builtin reads FHIR and writes CSV and XLSX (decisions 15 and 33). Reading and writing go on at the same time, a few
// batches of rows apart: memory does not grow with their number.
type builtin struct {
	source Source
	// heard is told now and then that the work goes on.
	heard func(ctx context.Context)
}

func newOutput(format string, w io.Writer, name string, now time.Time) (output, error) {
	switch format {
	case "csv":
		return newCSV(w, now), nil
	case "xlsx":
		return newXLSX(w, name, now), nil
	}
	return nil, errOutput
}

// write carries a plan out. w is whole only when there is no error.
func (x builtin) write(ctx context.Context, p plan, w io.Writer, now time.Time) (rows int64, err error) {
	out, err := newOutput(p.format, w, p.name, now)
	if err != nil {
		return 0, err
	}
	defer out.abandon()
	const inFlight = 4
	messages, free := make(chan message, inFlight), make(chan *batch, inFlight)
	for range inFlight {
		free <- &batch{}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(messages)
		return x.read(ctx, p, &pipe{ctx: ctx, messages: messages, free: free})
	})
	group.Go(func() error {
		rows, err = x.drain(ctx, out, messages, free)
		return err
	})
	if err := group.Wait(); err != nil {
		return rows, err
	}
	return rows, out.close()
}

func (x builtin) drain(ctx context.Context, out output, messages <-chan message, free chan<- *batch) (rows int64, err error) {
	for m := range messages {
		if m.rows == nil {
			if err := out.begin(m.title, m.header); err != nil {
				return rows, err
			}
			continue
		}
		if err := out.write(m.rows); err != nil {
			return rows, err
		}
		rows += int64(m.rows.rows)
		free <- m.rows
		if x.heard != nil {
			x.heard(ctx)
		}
	}
	return rows, ctx.Err()
}

// pipe is the reader's end.
type pipe struct {
	ctx      context.Context
	messages chan<- message
	free     <-chan *batch
}

func (p *pipe) begin(title string, header []string) error {
	return p.send(message{title: title, header: header})
}

func (p *pipe) send(m message) error {
	select {
	case p.messages <- m:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

func (p *pipe) batch(width int) (*batch, error) {
	select {
	case b := <-p.free:
		b.reset(width)
		return b, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (x builtin) read(ctx context.Context, p plan, to *pipe) error {
	if p.grouped {
		return x.readGrouped(ctx, p, to)
	}
	for _, t := range append([]planned{p.person}, p.others...) {
		if err := to.begin(t.title, t.header()); err != nil {
			return err
		}
		err := x.readTable(ctx, t, t.relate != "", to, func(b *batch) error { return x.related(ctx, t, b, to) })
		if err != nil {
			return fmt.Errorf("table %s: %w", t.title, err)
		}
	}
	return nil
}

// related passes on the rows of patients that belong to the table's further list.
func (x builtin) related(ctx context.Context, t planned, b *batch, to *pipe) error {
	if t.relate == "" {
		return to.send(message{rows: b})
	}
	persons, err := x.persons(ctx, planned{table: personTable, group: t.relate}, b.patients)
	if err != nil {
		return err
	}
	kept, err := to.batch(b.width)
	if err != nil {
		return err
	}
	for row := range b.rows {
		if _, ok := persons.row[b.patients[row]]; ok {
			kept.copyRow(b, row)
			kept.rows++
		}
	}
	if err := to.send(message{rows: kept}); err != nil {
		return err
	}
	return to.send(message{rows: b.empty()})
}

// personTable is enough of a table to ask which patients there are.
var personTable = &table{name: "person", resource: "Patient", patient: "id"}

// people are some persons, by their id.
type people struct {
	row map[string]int
	of  *batch
}

// persons reads the patients with these ids that belong to the group.
func (x builtin) persons(ctx context.Context, t planned, ids []string) (people, error) {
	r := newReader(t, true)
	found := people{row: map[string]int{}, of: &batch{}}
	found.of.reset(len(r.columns))
	wanted := distinct(ids)
	for len(wanted) > 0 {
		n := min(len(wanted), idsPerSearch)
		search := fhir.Search{Type: t.table.resource, Group: t.group, PageSize: idsPerSearch,
			Params: []fhir.Param{{Name: "_id", Value: strings.Join(wanted[:n], ",")}}}
		wanted = wanted[n:]
		for resource, err := range x.source.Search(ctx, search) {
			if err != nil {
				return found, err
			}
			if _, err := r.rows(resource, found.of); err != nil {
				return found, errResource
			}
		}
	}
	for row, id := range found.of.patients {
		found.row[id] = row
	}
	return found, nil
}

func distinct(ids []string) []string {
	seen, list := make(map[string]bool, len(ids)), []string{}
	for _, id := range ids {
		if id != "" && !seen[id] {
			seen[id], list = true, append(list, id)
		}
	}
	return list
}

// readGrouped writes one table: the columns of person, then those of each other table under its name. Each row is a person,
// or a record of another table with its person: nothing is multiplied, and persons without records are there.
func (x builtin) readGrouped(ctx context.Context, p plan, to *pipe) error {
	header := p.person.header()
	for _, t := range p.others {
		for _, c := range t.columns {
			header = append(header, t.title+"."+c.name)
		}
	}
	if err := to.begin(p.name, header); err != nil {
		return err
	}
	width, left := len(header), 0
	err := x.readTable(ctx, p.person, false, to, func(b *batch) error { return x.joined(to, b, people{}, 0, 0, width) })
	if err != nil {
		return fmt.Errorf("table %s: %w", p.person.title, err)
	}
	left = len(p.person.columns)
	for _, t := range p.others {
		err := x.readTable(ctx, t, true, to, func(b *batch) error {
			persons := people{of: &batch{}}
			if t.table.patient != "" {
				group := p.person
				if t.relate != "" {
					group.group = t.relate
				}
				var err error
				if persons, err = x.persons(ctx, group, b.patients); err != nil {
					return err
				}
			}
			return x.joined(to, b, persons, len(p.person.columns), left, width)
		})
		if err != nil {
			return fmt.Errorf("table %s: %w", t.title, err)
		}
		left += len(t.columns)
	}
	return nil
}

// joined sends the rows of b, beginning at the column left of the joined table, each with its person's cells. A record
// whose person is not among them is left out.
func (x builtin) joined(to *pipe, b *batch, persons people, personWidth, left, width int) error {
	out, err := to.batch(width)
	if err != nil {
		return err
	}
	for row := range b.rows {
		filled := 0
		if len(b.patients) > 0 {
			at, ok := persons.row[b.patients[row]]
			if !ok {
				continue
			}
			out.copyRow(persons.of, at)
			filled = personWidth
		}
		for ; filled < left; filled++ {
			out.add(nil, false)
		}
		out.copyRow(b, row)
		for filled += b.width; filled < width; filled++ {
			out.add(nil, false)
		}
		out.rows++
	}
	if err := to.send(message{rows: out}); err != nil {
		return err
	}
	return to.send(message{rows: b.empty()})
}
