package export

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/web"
)

// viewset is the name under which requests are logged (system.md 6.1).
const viewset = "exports.views.export.ExportViewSet"

// createBody documents the body of a new export.
type createBody struct {
	OutputFormat string      `json:"output_format" enum:"csv,xlsx,hive"`
	Nominative   bool        `json:"nominative"`
	Motivation   string      `json:"motivation,omitempty"`
	Datalab      *uuid.UUID  `json:"datalab,omitempty"`
	ShiftDates   bool        `json:"shift_dates,omitempty"`
	GroupTables  bool        `json:"group_tables,omitempty"`
	ExportTables []tableBody `json:"export_tables"`
}

type tableBody struct {
	TableName                 string     `json:"table_name"`
	CohortResultSource        *uuid.UUID `json:"cohort_result_source,omitempty"`
	FhirFilter                *uuid.UUID `json:"fhir_filter,omitempty"`
	Columns                   []string   `json:"columns,omitempty"`
	PivotMerge                bool       `json:"pivot_merge,omitempty"`
	PivotMergeColumns         []string   `json:"pivot_merge_columns,omitempty"`
	PivotMergeIDs             []string   `json:"pivot_merge_ids,omitempty"`
	RespectTableRelationships bool       `json:"respect_table_relationships,omitempty"`
}

// ItemView is an export in lists.
type ItemView struct {
	UUID             uuid.UUID    `json:"uuid"`
	Owner            string       `json:"owner"`
	OutputFormat     string       `json:"output_format"`
	Motivation       *string      `json:"motivation"`
	CohortID         *string      `json:"cohort_id"`
	CohortName       *string      `json:"cohort_name"`
	PatientsCount    *int64       `json:"patients_count"`
	CreatedAt        web.Datetime `json:"created_at"`
	ModifiedAt       web.Datetime `json:"modified_at"`
	RequestJobStatus string       `json:"request_job_status"`
	TargetDatalab    *string      `json:"target_datalab"`
	TargetName       *string      `json:"target_name"`
}

func itemOf(i Item) ItemView {
	return ItemView{UUID: i.UUID, Owner: identity.DisplayName(i.OwnerID, i.Firstname, i.Lastname, i.OwnerDeleted != nil), OutputFormat: i.OutputFormat,
		Motivation: i.Motivation, CohortID: i.GroupID, CohortName: i.CohortName, PatientsCount: i.PatientsCount, CreatedAt: web.Datetime(i.CreatedAt),
		ModifiedAt: web.Datetime(i.ModifiedAt), RequestJobStatus: i.JobStatus, TargetDatalab: i.DatalabName, TargetName: i.TargetName}
}

// View is an export in full.
type View struct {
	UUID              uuid.UUID   `json:"uuid"`
	RequestJobID      string      `json:"request_job_id"`
	RequestJobStatus  string      `json:"request_job_status"`
	RequestJobFailMsg string      `json:"request_job_fail_msg"`
	Owner             string      `json:"owner"`
	OutputFormat      string      `json:"output_format"`
	Datalab           *uuid.UUID  `json:"datalab"`
	Nominative        bool        `json:"nominative"`
	TargetName        *string     `json:"target_name"`
	TargetLocation    *string     `json:"target_location"`
	ShiftDates        bool        `json:"shift_dates"`
	GroupTables       bool        `json:"group_tables"`
	ExportTables      []TableView `json:"export_tables"`
	Motivation        *string     `json:"motivation"`
}

// TableView is a table of an export.
type TableView struct {
	Name                      string     `json:"name"`
	RespectTableRelationships bool       `json:"respect_table_relationships"`
	FhirFilter                *uuid.UUID `json:"fhir_filter"`
	CohortResultSource        *uuid.UUID `json:"cohort_result_source"`
	PivotMerge                bool       `json:"pivot_merge"`
	PivotMergeColumns         *[]string  `json:"pivot_merge_columns"`
	PivotMergeIDs             *[]string  `json:"pivot_merge_ids"`
}

// orNull keeps null apart from the empty list.
func orNull(list []string) *[]string {
	if list == nil {
		return nil
	}
	return &list
}

func viewOf(e Export) View {
	v := View{UUID: e.UUID, RequestJobID: e.JobID, RequestJobStatus: e.JobStatus, RequestJobFailMsg: e.JobFailMsg, Owner: e.OwnerID,
		OutputFormat: e.OutputFormat, Datalab: e.DatalabID, Nominative: e.Nominative, TargetName: e.TargetName, TargetLocation: e.TargetLocation,
		ShiftDates: e.ShiftDates, GroupTables: e.GroupTables, ExportTables: []TableView{}, Motivation: e.Motivation}
	for _, t := range e.Tables {
		v.ExportTables = append(v.ExportTables, TableView{Name: t.Name, RespectTableRelationships: t.RespectTableRelationships, FhirFilter: t.FhirFilterID,
			CohortResultSource: t.CohortResultSourceID, PivotMerge: t.PivotMerge, PivotMergeColumns: orNull(t.PivotMergeColumns), PivotMergeIDs: orNull(t.PivotMergeIDs)})
	}
	return v
}

type routes struct{ service *Service }

func text(name, doc string) web.Param { return web.Param{Name: name, Type: "string", Doc: doc} }

// Table is the exports API (exports.md 3).
func (s *Service) Table() web.Table {
	r := routes{s}
	const tag = "exports"
	table := web.Table{
		{Method: "GET", Path: "/exports/", Summary: "List exports: one's own, everybody's for full admins; 204 for an empty page", Tag: tag, Paged: web.ByOffset,
			Out: web.PageOf[ItemView]{}, For: web.AnyUser, Do: r.list, Query: []web.Param{text("output_format", "a comma list"), text("status", "a comma list"),
				text("request_job_status", "the same"), text("owner", "part of a name"), text("motivation", "a part of it"), text("search", ""),
				text("created_at_gte", "a moment or a day"), text("created_at_lte", "a moment or a day"),
				text("ordering", "created_at, modified_at, output_format, status, patients_count, owner"), {Name: "return_full_objects", Type: "boolean"}}},
		{Method: "POST", Path: "/exports/", Summary: "Ask for an export", Tag: tag, Body: createBody{}, Out: View{}, Status: 201, For: web.AnyUser,
			View: viewset, Action: "create", Do: r.create},
		{Method: "GET", Path: "/exports/:uuid/", Summary: "One export", Tag: tag, Out: View{}, For: web.OwnerOrAdmin, Do: r.retrieve},
		{Method: "GET", Path: "/exports/:uuid/download/", Summary: "The files of a finished export", Tag: tag, Produces: "application/zip", For: web.Owner,
			View: viewset, Action: "download", Do: r.download},
		{Method: "POST", Path: "/exports/:uuid/retry/", Summary: "Try a failed export again", Tag: tag, Out: "", For: web.OwnerOrAdmin,
			View: viewset, Action: "retry", Do: r.retry},
		{Method: "POST", Path: "/exports/:uuid/relaunch/", Summary: "Make a new export like this one", Tag: tag, Out: View{}, Status: 201, For: web.FullAdmin,
			View: viewset, Action: "relaunch", Do: r.relaunch},
		{Method: "GET", Path: "/exports/:uuid/logs/", Summary: "What the export API says about the job of an export", Tag: tag, Out: map[string]any{},
			For: web.FullAdmin, Do: r.logs},
	}
	return slices.Concat(table, r.lookups(), r.stats(), r.datalabs())
}

// day is how far a bare day, as an upper bound, reaches.
const day = 24*time.Hour - time.Microsecond

// moment reads the portal's bounds; what cannot be read is none (clients.md 32).
func moment(text string, upper bool) *time.Time {
	for _, form := range []string{"2006-01-02 3:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(form, text); err == nil {
			return &t
		}
	}
	t, ok := web.ParseDatetime(text)
	if !ok {
		return nil
	}
	if upper && len(text) == len("2006-01-02") {
		t = t.Add(day)
	}
	return &t
}

func (r routes) list(c *gin.Context) error {
	q := web.QueryOf(c)
	f := Filter{Formats: q.List("output_format"), Statuses: q.List("status"), Owner: q.Text("owner"), Motivation: q.Text("motivation"), Search: q.Search(),
		From: moment(q.Text("created_at_gte"), false), Until: moment(q.Text("created_at_lte"), true),
		Order: q.Ordering("created_at", "modified_at", "output_format", "status", "patients_count", "owner"), WithTables: isTrue(c.Query("return_full_objects"))}
	if f.Statuses == nil {
		f.Statuses = q.List("request_job_status")
	}
	if err := q.Err(); err != nil {
		return err
	}
	list, err := r.service.List(c.Request.Context(), identity.CallerOf(c), f, web.OffsetPage(c))
	if err != nil {
		return err
	}
	if len(list.rows) == 0 {
		web.Empty(c, http.StatusNoContent)
		return nil
	}
	if f.WithTables {
		envelope(c, list, func(i Item) View { return viewOf(i.Export) })
	} else {
		envelope(c, list, itemOf)
	}
	return nil
}

// isTrue reads a parameter that clients send as JSON; what is none is false.
func isTrue(text string) bool {
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return false
	}
	switch v := v.(type) {
	case bool:
		return v
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

func (r routes) create(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	e, err := r.service.Create(c.Request.Context(), identity.CallerOf(c), body)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewOf(e))
	return nil
}

func (r routes) retrieve(c *gin.Context) error {
	return answerOne(c, func(ctx context.Context, id uuid.UUID) (Export, error) {
		return r.service.Get(ctx, identity.CallerOf(c), id)
	}, viewOf)
}

func (r routes) retry(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	if err := r.service.Retry(c.Request.Context(), identity.CallerOf(c), id); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, fmt.Sprintf("The export `%s` has been relaunched", id))
	return nil
}

func (r routes) relaunch(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	e, err := r.service.Relaunch(c.Request.Context(), identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewOf(e))
	return nil
}
