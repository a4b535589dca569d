package export

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// request is a new export, read from a body and checked.
type request struct {
	format      string
	nominative  bool
	motivation  string
	datalab     *Datalab
	shiftDates  bool
	groupTables bool
	tables      []tableRequest
}

type tableRequest struct {
	name         string
	source       *uuid.UUID
	filter       *uuid.UUID
	columns      []string
	pivot        bool
	pivotColumns []string
	pivotIDs     []string
}

// invalid is a refusal of phase A (exports.md 5.2): a list of one sentence.
func invalid(format string, args ...any) error {
	return fault.Refused{Status: 400, Body: []string{"Invalid export data: " + fmt.Sprintf(format, args...)}}
}

// check reads and checks a body, in the order of exports.md 5.2: first what is about the export as a whole, then its rights,
// then its single fields. Nothing is written.
func (s *Service) check(ctx context.Context, username string, body web.Object) (request, error) {
	var r request
	format, _ := body["output_format"].(string)
	if format == "" {
		return r, invalid("output_format is required")
	}
	if !s.exports(format) {
		return r, invalid("Missing exporter configuration for type `%s`", web.Display(format))
	}
	r.format = format
	fields := web.FieldsOf(body, false)
	nominative := fields.Bool("nominative")
	r.nominative = nominative.Or(false)
	if unsaid := fields.Raw("nominative") == nil || !fields.Has("nominative"); format != formatHive && !r.nominative && unsaid {
		return r, invalid("Export must be in `nominative` mode")
	}
	if err := r.readTables(body); err != nil {
		return r, err
	}
	sources, err := s.checkSources(ctx, username, r)
	if err != nil {
		return r, err
	}
	if err := s.checkEmail(ctx, username); err != nil {
		return r, err
	}
	if format == formatHive && !fields.HasKey("nominative") {
		return r, invalid("`nominative` is required")
	}
	if err := s.checkRights(ctx, username, r, sources); err != nil {
		return r, err
	}
	if err := s.checkTables(ctx, username, r, sources); err != nil {
		return r, err
	}
	return r, s.checkFields(ctx, fields, &r)
}

// exports tells whether the format can be made with what is configured: Hive is the third-party APIs' alone.
func (s *Service) exports(format string) bool {
	switch format {
	case formatCSV, formatXLSX:
		return s.cfg.API != nil || s.cfg.Source != nil
	case formatHive:
		return s.cfg.API != nil && s.cfg.Hadoop != nil
	}
	return false
}

func (r *request) readTables(body web.Object) error {
	value, there := body["export_tables"]
	if !there {
		return nil
	}
	items, ok := value.([]any)
	if !ok {
		return invalid("export_tables must be a list")
	}
	if len(items) > maxTables {
		return invalid("export_tables holds no more than %d tables", maxTables)
	}
	for i, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			return invalid("table %d is not an object", i+1)
		}
		t, err := readTable(object)
		if err != nil {
			return err
		}
		r.tables = append(r.tables, t)
	}
	return nil
}

// The widths of the columns (schema.md 5.4).
const (
	maxName   = 55
	maxPivot  = 255
	maxTarget = 255
)

// maxTables bounds the tables of one export: each may have a cohort made for it. The clients know some twenty.
const maxTables = 500

func readTable(o map[string]any) (t tableRequest, err error) {
	if v, ok := o["table_name"]; ok && v != nil {
		if t.name, ok = v.(string); !ok {
			return t, invalid("table_name must be a text")
		}
	}
	if utf8.RuneCountInString(t.name) > maxName || strings.ContainsRune(t.name, 0) {
		return t, invalid("table_name has no more than %d characters", maxName)
	}
	t.pivot = truthy(o["pivot_merge"])
	for _, ref := range []struct {
		key  string
		into **uuid.UUID
	}{{"cohort_result_source", &t.source}, {"fhir_filter", &t.filter}} {
		if *ref.into, err = reference(o[ref.key]); err != nil {
			return t, err
		}
	}
	for _, list := range []struct {
		key  string
		max  int
		into *[]string
	}{{"columns", maxName, &t.columns}, {"pivot_merge_columns", maxPivot, &t.pivotColumns}, {"pivot_merge_ids", maxPivot, &t.pivotIDs}} {
		if *list.into, err = texts(list.key, o[list.key], list.max); err != nil {
			return t, err
		}
	}
	return t, nil
}

func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		switch strings.ToLower(v) {
		case "", "false", "f", "0", "no", "n", "off":
			return false
		}
		return true
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return web.Display(v) != "0"
}

// reference reads a uuid; what is empty is none.
func reference(v any) (*uuid.UUID, error) {
	if !truthy(v) {
		return nil, nil
	}
	text, _ := v.(string)
	id, err := web.ParseUUID(text)
	if err != nil {
		return nil, invalid("“%s” is not a valid UUID.", web.Display(v))
	}
	return &id, nil
}

// texts reads a list of texts; null is not the empty list.
func texts(key string, v any, limit int) ([]string, error) {
	if v == nil {
		return nil, nil
	}
	items, ok := v.([]any)
	if !ok {
		return nil, invalid("%s must be a list", key)
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		text, ok := item.(string)
		if !ok || utf8.RuneCountInString(text) > limit || strings.ContainsRune(text, 0) {
			return nil, invalid("%s must hold texts of no more than %d characters", key, limit)
		}
		list = append(list, text)
	}
	return list, nil
}

// checkSources finds the source cohorts: A4 to A8.
func (s *Service) checkSources(ctx context.Context, username string, r request) (map[uuid.UUID]cohort, error) {
	var ids []uuid.UUID
	distinct := map[uuid.UUID]bool{}
	for _, t := range r.tables {
		if t.source != nil && !distinct[*t.source] {
			distinct[*t.source] = true
			ids = append(ids, *t.source)
		}
	}
	if r.format != formatHive && len(ids) != 1 {
		return nil, invalid("All export tables must have the same source cohort")
	}
	found, err := s.store.Cohorts(ctx, ids)
	if err != nil {
		return nil, err
	}
	if r.format != formatHive {
		if c, ok := found[ids[0]]; !ok || c.OwnerID != username {
			return nil, invalid("Missing cohort with id %s", ids[0])
		}
		return found, nil
	}
	person := false
	for _, t := range r.tables {
		if isPerson(t.name) {
			person = true
			if t.source == nil {
				return nil, invalid("The `%s` table can not be exported without a source cohort", t.name)
			}
		}
		if t.source == nil {
			continue
		}
		if c, ok := found[*t.source]; !ok || c.JobStatus != statusFinished {
			return nil, invalid("Cohort `%s` not found or did not finish successfully", *t.source)
		}
	}
	if !person && len(ids) == 0 {
		return nil, invalid("`person` table was not specified; must then provide source cohort for all tables")
	}
	return found, nil
}

// checkEmail makes sure that the requester can be told: A9, A10.
func (s *Service) checkEmail(ctx context.Context, username string) error {
	u, err := s.store.User(ctx, username)
	if err != nil {
		return err
	}
	if u.Email == nil || *u.Email == "" {
		return invalid("No email address is configured. Please contact an administrator")
	}
	if !s.email.MatchString(*u.Email) {
		return invalid("Invalid email address '%s'. Please contact an administrator.", *u.Email)
	}
	return nil
}

// checkRights asks whether the requester may take the data of all source cohorts out: A12.
func (s *Service) checkRights(ctx context.Context, username string, r request, sources map[uuid.UUID]cohort) error {
	var perimeters []string
	seen := map[string]bool{}
	for _, t := range r.tables {
		if t.source == nil {
			continue
		}
		ids := perimetersOf(sources[*t.source])
		if len(ids) == 0 { // decision 7: a cohort of nobody knows where gives no rights
			perimeters = nil
			break
		}
		for _, id := range ids {
			if !seen[id] {
				seen[id], perimeters = true, append(perimeters, id)
			}
		}
	}
	missing, err := s.cfg.Rights.MissingForExport(ctx, username, Need{Jupyter: r.format == formatHive, Nominative: r.nominative}, perimeters)
	if err != nil {
		return fmt.Errorf("check the rights to export: %w", err)
	}
	if missing == nil {
		return nil
	}
	list := make([]string, len(missing.Perimeters))
	for i, id := range missing.Perimeters {
		list[i] = fmt.Sprint(id)
	}
	return invalid("The user is missing `%s` on the following perimeters: [%s].", missing.Right, strings.Join(list, ", "))
}

// errNoFilterSource is phase C's sentence, without the prefix of phase A.
var errNoFilterSource = fault.Refused{Status: 400, Body: []string{"A FHIR filter was provided but not a cohort source to filter"}}

// checkTables checks what the old system found out only after it had written the export. A filter of somebody else's reads
// like one that does not exist (decision 3), except in transfers, which an operator makes of other people's cohorts.
func (s *Service) checkTables(ctx context.Context, username string, r request, sources map[uuid.UUID]cohort) error {
	var ids []uuid.UUID
	for _, t := range r.tables {
		if t.filter == nil {
			continue
		}
		if t.source == nil {
			return errNoFilterSource
		}
		ids = append(ids, *t.filter)
	}
	filters, err := s.store.Filters(ctx, ids)
	if err != nil {
		return err
	}
	for _, t := range r.tables {
		if t.filter != nil {
			if f, ok := filters[*t.filter]; !ok || r.format != formatHive && f.OwnerID != username {
				return invalid("FHIR filter `%s` not found", *t.filter)
			}
		}
		if t.wantsSubset() {
			if c := sources[*t.source]; c.SnapshotID == nil || c.DatedMeasureID == nil || c.GroupID == "" {
				return invalid("Cohort `%s` has nothing that could be filtered", *t.source)
			}
		}
	}
	if s.builtIn() {
		return s.checkMapping(r, filters)
	}
	return nil
}

// unfiltered are the tables for which no subset is ever made (exports.md 7).
var unfiltered = map[string]bool{"imaging_series": true, "questionnaire__item": true, "questionnaireresponse__item": true,
	"questionnaireresponse__item__answer": true}

// wantsSubset tells whether a subset of the source cohort is to be made for the table.
func (t tableRequest) wantsSubset() bool {
	return t.source != nil && (t.filter != nil || t.name == noteName) && !unfiltered[t.name]
}

// checkMapping refuses what the built-in exporter cannot write, and names what it can (decision 33).
func (s *Service) checkMapping(r request, filters map[uuid.UUID]filter) error {
	for _, t := range r.tables {
		known, err := s.tables.find(t.name)
		if err != nil {
			return invalid("%s", err)
		}
		if _, err := known.pick(t.columns); err != nil {
			return invalid("%s", err)
		}
		if t.pivots() && known.name != pivotTable {
			return invalid("the table `%s` cannot be pivoted; only `%s` can", t.name, pivotTable)
		}
		if t.filter != nil && filters[*t.filter].FhirResource != known.resource {
			return invalid("the table `%s` holds %s, its filter is for %s", t.name, known.resource, filters[*t.filter].FhirResource)
		}
	}
	return nil
}

func (t tableRequest) pivots() bool { return t.pivot || t.pivotColumns != nil || t.pivotIDs != nil }

// checkFields is phase B, and A13 for transfers.
func (s *Service) checkFields(ctx context.Context, fields *web.Fields, r *request) error {
	lab, err := s.checkDatalab(ctx, fields, r.format)
	if err != nil {
		return err
	}
	r.datalab = lab
	r.motivation = oneLine(fields.String("motivation", web.Blank, web.Nullable, web.Untrimmed).Or(""))
	r.shiftDates = fields.Bool("shift_dates").Or(false)
	r.groupTables = fields.Bool("group_tables").Or(false)
	return fields.Err()
}

func (s *Service) checkDatalab(ctx context.Context, fields *web.Fields, format string) (*Datalab, error) {
	if format == formatHive {
		id, err := reference(fields.Raw("datalab"))
		if err != nil {
			return nil, err
		}
		if id == nil {
			return nil, invalid("`datalab` is required")
		}
		lab, err := s.store.datalab(ctx, *id)
		if errors.Is(err, fault.NotFound{Model: "Datalab"}) {
			return nil, invalid("Datalab matching query does not exist.")
		}
		if utf8.RuneCountInString(targetName(lab.Name, time.Time{})) > maxTarget {
			return nil, invalid("the name of the datalab is too long for a database")
		}
		return &lab, err
	}
	ref := fields.Ref("datalab", web.Nullable).Ptr()
	if ref == nil {
		return nil, nil
	}
	lab, err := s.store.datalab(ctx, *ref)
	if errors.Is(err, fault.NotFound{Model: "Datalab"}) {
		fields.Add("datalab", web.NoSuchRow(*ref))
		return nil, nil
	}
	return &lab, err
}

func oneLine(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(text, "\n", " - "))
}
