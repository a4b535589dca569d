package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// VirtualCohort is the cohort of all patients of a perimeter, which QueryExecutor is to make (accesses.md 19).
type VirtualCohort struct {
	PerimeterID int64
	// Descendants are the ids of all perimeters below, in the order of their texts.
	Descendants []string
	// ExistingCohortID is the cohort to renew, "" for a new one.
	ExistingCohortID string
}

// CallbackPath is where QueryExecutor reports the cohort.
func (v VirtualCohort) CallbackPath() string {
	return fmt.Sprintf("/fhir-perimeters/%d/", v.PerimeterID)
}

// Query is the document that describes the cohort: everybody with an encounter in the perimeter or below it.
func (v VirtualCohort) Query() string {
	places := strings.Join(append([]string{strconv.FormatInt(v.PerimeterID, 10)}, v.Descendants...), ",")
	return `{"_type": "request", "sourcePopulation": {}, "request": {"_type": "andGroup", "_id": 0, "isInclusive": true, "criteria": ` +
		`[{"_type": "basicResource", "_id": 1, "isInclusive": true, "resourceType": "Encounter", "filterFhir": "service-provider=` + places + `"}]}}`
}

// VirtualCohorts has virtual cohorts made.
type VirtualCohorts interface {
	// OweVirtualCohorts owes one job for each within the transaction.
	OweVirtualCohorts(ctx context.Context, tx *database.Tx, cohorts []VirtualCohort) error
}

// The root above several organizations without parent.
const (
	syntheticRootID   = 1
	syntheticRootName = "All Hospitals"
)

// organization is what is read of the FHIR resource.
type organization struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	PartOf *struct {
		Reference string `json:"reference"`
	} `json:"partOf"`
}

// SyncFromFHIR makes the perimeters those of the FHIR server's active organizations, and owes their virtual cohorts
// (accesses.md 19). A source that cannot be read, that names nothing, or whose organizations make no tree, changes nothing.
func (s *Service) SyncFromFHIR(ctx context.Context) (report SyncReport, err error) {
	if s.peers.Organizations == nil {
		return SyncReport{}, errors.New("there is no FHIR server to take perimeters from: set FHIR_URL")
	}
	root, err := s.organizations(ctx, &report)
	if err != nil {
		s.log.ErrorContext(ctx, "the perimeters stay as they are", "error", err)
		return SyncReport{}, err
	}
	rows := flatten(root, new(""))
	types := s.cfg.PerimeterTypes
	for i := range rows {
		rows[i].TypeSourceValue = &types[min(*rows[i].Level, len(types))-1]
	}
	warnings := report.Warnings
	err = s.write(ctx, func(tx *database.Tx) error {
		report = SyncReport{Warnings: warnings}
		now, _, err := s.reconcile(tx, rows, source{}, &report)
		if err != nil {
			return err
		}
		return s.peers.VirtualCohorts.OweVirtualCohorts(ctx, tx, virtualCohorts(rows, now))
	})
	for _, warning := range warnings {
		s.log.WarnContext(ctx, "organizations of the FHIR server", "problem", warning)
	}
	return report, err
}

// virtualCohorts are those of all rows, the lowest first: the small ones are ready while the large ones are made.
func virtualCohorts(rows []Perimeter, now map[int64]Perimeter) []VirtualCohort {
	tree := BuildTree(rows)
	list := make([]VirtualCohort, 0, len(rows))
	for _, row := range slices.Backward(rows) {
		below := texts(tree.Below(row.ID))
		slices.Sort(below)
		list = append(list, VirtualCohort{row.ID, below, deref(now[row.ID].CohortID)})
	}
	return list
}

// sourceError is a sentence about a source that failed: for a terminal as it is, for HTTP as a 502.
type sourceError string

func (e sourceError) Error() string { return string(e) }

// As makes it a fault for who asks for one.
func (e sourceError) As(target any) bool {
	refused, ok := target.(*fault.Refused)
	if ok {
		*refused = fault.Detail(http.StatusBadGateway, string(e))
	}
	return ok
}

func errSource(format string, args ...any) error { return sourceError(fmt.Sprintf(format, args...)) }

// organizations reads the source and joins its organizations to one tree.
func (s *Service) organizations(ctx context.Context, report *SyncReport) (*site, error) {
	warn := func(format string, args ...any) {
		report.Warnings = append(report.Warnings, fmt.Sprintf(format, args...))
	}
	sites := map[int64]*site{}
	parents := map[int64]string{}
	var order []int64
	for raw, err := range s.peers.Organizations.Search(ctx, "Organization", url.Values{"active": {"true"}}) {
		if err != nil {
			return nil, errors.Join(errSource("The organizations of the FHIR server could not be read."), fmt.Errorf("read organizations: %w", err))
		}
		var o organization
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, errSource("The FHIR server answered with an organization that cannot be read.")
		}
		id, err := strconv.ParseInt(o.ID, 10, 64)
		if err != nil || o.Name == "" {
			return nil, errSource("Organization %q of the FHIR server has no whole number as id, or no name.", o.ID)
		}
		if sites[id] != nil {
			warn("organization %d comes twice", id)
			continue
		}
		sites[id] = &site{row: Perimeter{ID: id, Name: &o.Name, ShortName: &o.Name}, label: o.Name}
		order = append(order, id)
		if o.PartOf != nil {
			parents[id] = o.PartOf.Reference
		}
	}
	if len(order) == 0 {
		return nil, errSource("The FHIR server has no active organization: the perimeters stay as they are.")
	}
	return join(sites, order, parents, warn)
}

// join hangs each organization under its parent, and several tops under a root of our own.
func join(sites map[int64]*site, order []int64, parents map[int64]string, warn func(string, ...any)) (*site, error) {
	var tops []*site
	for _, id := range order {
		reference := parents[id]
		if reference == "" {
			tops = append(tops, sites[id])
			continue
		}
		parent, err := strconv.ParseInt(reference[strings.LastIndexByte(reference, '/')+1:], 10, 64)
		if err != nil || sites[parent] == nil {
			warn("organization %d: its parent %q is not among the active ones", id, reference)
			tops = append(tops, sites[id])
			continue
		}
		sites[parent].children = append(sites[parent].children, sites[id])
	}
	root := &site{row: Perimeter{ID: syntheticRootID, Name: new(syntheticRootName), ShortName: new(syntheticRootName)}, label: syntheticRootName, children: tops}
	switch {
	case len(tops) == 1:
		root = tops[0]
	case len(tops) > 1 && sites[syntheticRootID] != nil:
		return nil, errSource("The FHIR server has several organizations without parent, and one with the id %d of the root above them.", syntheticRootID)
	}
	if reached := len(reachable(root)); len(tops) == 0 || reached < len(order) {
		return nil, errSource("Some organizations of the FHIR server are part of themselves: the perimeters stay as they are.")
	}
	return root, nil
}

// reachable are a site and all below it.
func reachable(root *site) []*site {
	list := []*site{root}
	for i := 0; i < len(list); i++ {
		list = append(list, list[i].children...)
	}
	return list
}

// fhirTable are the routes of /fhir-perimeters/ (accesses.md 14).
func (r routes) fhirTable() web.Table {
	return web.Table{
		{Method: http.MethodPut, Path: "/fhir-perimeters/_sync/", Summary: "Take the perimeters from the FHIR server now", Tag: tag,
			For: AdminOrJobs, Do: r.syncFromFHIR},
		{Method: http.MethodPatch, Path: "/fhir-perimeters/:id/", Summary: "Callback: the virtual cohort of a perimeter is ready", Tag: tag,
			Body: map[string]any{}, Out: struct{}{}, For: AdminOrJobs, Do: r.virtualCohortReady},
	}
}

func (r routes) syncFromFHIR(c *gin.Context) error {
	if _, err := r.service.SyncFromFHIR(c.Request.Context()); err != nil {
		return err
	}
	web.Empty(c, http.StatusOK)
	return nil
}

func (r routes) virtualCohortReady(c *gin.Context) error {
	id, err := pathID(c, "id", perimeterKey)
	if err != nil {
		return err
	}
	// not from the tree: thousands of these come after a synchronisation, and each makes the tree a new one
	_, found, err := live[Perimeter](r.service.db.Read(c.Request.Context()), id)
	if err != nil {
		return err
	}
	if !found {
		return fault.NotFound{Model: "Perimeter"}
	}
	payload, err := web.Body(c)
	if err != nil {
		return err
	}
	group, there := either(payload, "group.id", "group_id")
	if !there {
		r.service.log.WarnContext(c.Request.Context(), "no virtual cohort for a perimeter", "perimeter", id)
		web.JSON(c, http.StatusOK, struct{}{})
		return nil
	}
	size, _ := either(payload, "group.count", "group_count")
	if strings.ContainsRune(group+size, 0) {
		return fault.Field("group.id", "Null characters are not allowed.")
	}
	if err := r.service.SetVirtualCohort(c.Request.Context(), id, group, size); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, struct{}{})
	return nil
}

// either is the text of the first of two spellings that is there and not empty; numbers are written as texts.
func either(payload web.Object, names ...string) (text string, there bool) {
	for _, name := range names {
		switch v := payload[name].(type) {
		case string:
			text = strings.TrimSpace(v)
		case json.Number:
			text = v.String()
		}
		if text != "" {
			return text, true
		}
	}
	return "", false
}

// SetVirtualCohort notes the cohort of a perimeter's patients, and its size unless that is empty.
func (s *Service) SetVirtualCohort(ctx context.Context, perimeter int64, cohortID, size string) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		if err := touchTree(tx); err != nil {
			return err
		}
		change := map[string]any{"cohort_id": cohortID, "update_datetime": s.clock.Now()}
		if size != "" {
			change["cohort_size"] = size
		}
		done := tx.Model(&Perimeter{}).Where("id = ? AND delete_datetime IS NULL", perimeter).Updates(change)
		if done.Error != nil {
			return fmt.Errorf("note the virtual cohort of perimeter %d: %w", perimeter, done.Error)
		}
		if done.RowsAffected == 0 {
			return fault.NotFound{Model: "Perimeter"}
		}
		return nil
	})
}
