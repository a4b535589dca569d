package export

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/jsonscan"
	"cohortflow/internal/platform/storage"
)

// refusal says that an export cannot be written whatever is tried; people read it.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// pivotTable is the one table that the built-in exporter pivots: its questions become columns.
const pivotTable = "questionnaireresponse"

// maxPivots bounds the columns that pivoting may add.
const maxPivots = 2000

// plan works out what the built-in exporter has to read for an export.
func (s *Service) plan(ctx context.Context, c contents) (plan, error) {
	person, group, others, err := c.person()
	if err != nil {
		return plan{}, &refusal{err}
	}
	if c.path() == "" {
		return plan{}, &refusal{errNoDirectory}
	}
	p := plan{format: c.OutputFormat, name: c.target(), grouped: c.GroupTables}
	if p.person, err = s.planned(ctx, c, person, group); err != nil {
		return plan{}, err
	}
	for _, t := range others {
		one, err := s.planned(ctx, c, t, group)
		if err != nil {
			return plan{}, err
		}
		p.others = append(p.others, one)
	}
	return p, nil
}

// planned is one table. Its rows are those of its own subset, or of the persons; the rows of a subset keep to the persons
// where these are a subset themselves.
func (s *Service) planned(ctx context.Context, c contents, t Table, persons string) (planned, error) {
	known, err := s.tables.find(t.Name)
	if err != nil {
		return planned{}, &refusal{err}
	}
	p := planned{table: known, title: t.Name}
	if p.columns, err = known.pick(t.Columns); err != nil {
		return planned{}, &refusal{err}
	}
	if known.patient != "" {
		p.group = persons
		if subset := c.subset(t); subset != "" && !isPerson(t.Name) {
			p.group = subset
			if persons != c.source(t) {
				p.relate = persons
			}
		}
	}
	if t.FhirFilterID != nil && t.CohortResultSubsetID == nil {
		p.filter = c.filters[*t.FhirFilterID].Filter
	}
	return p, s.pivot(ctx, &p, t)
}

// pivot adds a column for each question asked for; of all of them when none is, as the questionnaires have them.
func (s *Service) pivot(ctx context.Context, p *planned, t Table) error {
	if !t.PivotMerge && t.PivotMergeColumns == nil && t.PivotMergeIDs == nil {
		return nil
	}
	if p.table.name != pivotTable {
		return &refusal{fmt.Errorf("the table `%s` cannot be pivoted; only `%s` can", t.Name, pivotTable)}
	}
	p.questionnaires = t.PivotMergeIDs
	names := []string(t.PivotMergeColumns)
	if len(names) == 0 {
		var err error
		if names, err = s.questions(ctx, t.PivotMergeIDs); err != nil {
			return err
		}
	}
	if len(names) > maxPivots {
		return &refusal{fmt.Errorf("the questionnaires have more than %d questions; please choose some", maxPivots)}
	}
	answers, err := compileAccessor(answerValue(""))
	if err != nil {
		return err
	}
	p.columns = slices.Clone(p.columns)
	for _, name := range names {
		a := answers
		a.pivot = name
		p.columns = append(p.columns, column{name, a})
	}
	return nil
}

// questions are the link ids of the questionnaires' items that ask something, in their order.
func (s *Service) questions(ctx context.Context, ids []string) ([]string, error) {
	var names []string
	seen := map[string]bool{}
	for resource, err := range s.cfg.Source.Search(ctx, fhir.Search{Type: "Questionnaire", PageSize: pageSize}) {
		if err != nil {
			return nil, err
		}
		var id string
		var items []byte
		if err := jsonscan.Members(resource, func(key, v []byte) bool {
			switch string(key) {
			case "id":
				id = string(jsonscan.AppendString(nil, v))
			case "item":
				items = v
			}
			return true
		}); err != nil {
			return nil, errResource
		}
		if len(ids) > 0 && !slices.Contains(ids, id) {
			continue
		}
		links(items, func(link string) {
			if !seen[link] && len(names) <= maxPivots {
				seen[link], names = true, append(names, link)
			}
		})
	}
	return names, nil
}

// links calls f for each item that is no mere group.
func links(items []byte, f func(link string)) {
	_ = jsonscan.Elements(items, func(item []byte) bool {
		var link, kind string
		var inner []byte
		_ = jsonscan.Members(item, func(key, v []byte) bool {
			switch string(key) {
			case "linkId":
				link = string(jsonscan.AppendString(nil, v))
			case "type":
				kind = string(v)
			case "item":
				inner = v
			}
			return true
		})
		if link != "" && kind != `"group"` && kind != `"display"` {
			f(link)
		}
		links(inner, f)
		return true
	})
}

// sentenceOf words an error of writing for people: what the FHIR client and the storage say is meant for them.
func sentenceOf(err error) error {
	var told *fhir.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, errResource):
		return errResource
	case errors.Is(err, storage.ErrUnavailable), errors.Is(err, storage.ErrPath):
		return errors.New("Storage provider error: " + storage.Reason(err))
	}
	return errors.New("the files could not be written")
}
