package export

import (
	"context"
	"errors"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/jsonscan"
)

// batchBytes bounds what travels together where cells are large: documents.
const batchBytes = 1 << 20

// errResource is worded for those who read why an export failed.
var errResource = errors.New("the FHIR server gave a resource that cannot be read")

// taking makes rows of resources while the FHIR client cuts them out of its pages, and gives them away in batches. The
// text of a resource is read once; what the network brings meanwhile waits in the connection.
type taking struct {
	*reader
	to   *pipe
	give func(*batch) error

	out       *batch
	kept      int // rows of out that are certain: a resource may have to be read again
	resources int // that out was made of
	err       error
}

// readTable gives the rows of a table away in batches.
func (x builtin) readTable(ctx context.Context, t planned, patients bool, to *pipe, give func(*batch) error) error {
	rows := &taking{reader: newReader(t, patients), to: to, give: give}
	if err := rows.next(); err != nil {
		return err
	}
	search := fhir.Search{Type: t.table.resource, Group: t.group, Filter: t.filter, PageSize: pageSize}
	err := x.source.Scan(ctx, search, rows)
	if rows.err != nil {
		return rows.err
	}
	if err != nil {
		return err
	}
	return rows.flush()
}

// next begins a batch.
func (t *taking) next() (err error) {
	t.out, err = t.to.batch(len(t.columns))
	t.kept, t.resources = 0, 0
	return err
}

func (t *taking) flush() error {
	t.out.cut(t.kept)
	return t.give(t.out)
}

// Scan is called by the FHIR client, perhaps more than once for a resource.
func (t *taking) Scan(b []byte) (end int, err error) {
	t.out.cut(t.kept)
	if end, err = t.rows(b, t.out); err != nil && !errors.Is(err, jsonscan.ErrIncomplete) {
		t.err = errResource
	}
	return end, err
}

// Keep makes the rows of the last resource certain. Batches are given away also where few resources have rows: it shows
// that the work goes on.
func (t *taking) Keep() bool {
	t.kept = t.out.rows
	t.resources++
	if t.resources < batchRows && t.kept < batchRows && len(t.out.data) < batchBytes {
		return true
	}
	if t.err = t.flush(); t.err == nil {
		t.err = t.next()
	}
	return t.err == nil
}
