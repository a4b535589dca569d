package access

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

var perimeterOrders = []string{"care_site_name", "care_site_type_source_value", "care_site_source_value"}

var perimeterParams = []web.Param{
	{Name: "name", Type: "string", Doc: "contained"}, {Name: "source_value", Type: "string", Doc: "contained"},
	{Name: "type_source_value", Type: "string", Doc: "comma list"}, {Name: "cohort_id", Type: "string", Doc: "comma list"},
	{Name: "parent_id", Type: "string", Doc: "comma list"}, {Name: "local_id", Type: "string", Doc: "comma list; ids will do"},
	{Name: "search", Type: "string", Doc: "in name, type and source value"},
	{Name: "ordering", Type: "string", Doc: strings.Join(perimeterOrders, ", ")},
}

func readPerimeterFilter(c *gin.Context) (PerimeterFilter, error) {
	q := web.QueryOf(c)
	f := PerimeterFilter{
		Name: q.Text("name"), SourceValue: q.Text("source_value"), Types: q.List("type_source_value"), CohortIDs: q.List("cohort_id"),
		LocalIDs: q.List("local_id"), Search: q.Search(), Order: q.Ordering(perimeterOrders...),
	}
	for _, text := range q.List("parent_id") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			q.Refuse("parent_id", "Enter a whole number.")
			break
		}
		f.Parents = append(f.Parents, id)
	}
	return f, q.Err()
}

// filterIfAny is nil for a request without any query parameter, even an unknown one: the two lists of the picker answer
// differently then (accesses.md 13.4, 13.5).
func filterIfAny(c *gin.Context) (*PerimeterFilter, error) {
	if len(c.Request.URL.Query()) == 0 {
		return nil, nil
	}
	f, err := readPerimeterFilter(c)
	return &f, err
}

func (r routes) perimeters(c *gin.Context) error {
	f, err := readPerimeterFilter(c)
	if err != nil {
		return err
	}
	return r.listPerimeters(c, f, web.OffsetPage(c))
}

func (r routes) listPerimeters(c *gin.Context, f PerimeterFilter, page web.Page) error {
	list, total, err := r.service.ListPerimeters(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	views := make([]perimeterView, len(list))
	for i, p := range list {
		views[i] = viewPerimeter(p)
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

// children are the perimeters under one, which need not exist: all of them, for the portal sends no limit and would miss the
// others (accesses.md 13.7). A filter by parents on top of it can only narrow it.
func (r routes) children(c *gin.Context) error {
	id, err := pathID(c, "id", perimeterKey)
	if err != nil {
		return err
	}
	f, err := readPerimeterFilter(c)
	if err != nil {
		return err
	}
	page := web.WholePage(c)
	if parents := setOf(f.Parents); parents != nil && !parents[id] {
		web.JSON(c, http.StatusOK, web.Envelope[perimeterView](c, page, 0, nil))
		return nil
	}
	f.Parents = []int64{id}
	return r.listPerimeters(c, f, page)
}

func (r routes) perimeter(c *gin.Context) error {
	id, err := pathID(c, "id", perimeterKey)
	if err != nil {
		return err
	}
	p, err := r.service.GetPerimeter(c.Request.Context(), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewPerimeter(p))
	return nil
}

func (r routes) child(c *gin.Context) error {
	parent, err := pathID(c, "id", perimeterKey)
	if err != nil {
		return err
	}
	id, err := pathID(c, "child", perimeterKey)
	if err != nil {
		return err
	}
	p, err := r.service.GetPerimeter(c.Request.Context(), id)
	if err != nil {
		return err
	}
	if p.ParentID == nil || *p.ParentID != parent {
		return fault.NotFound{Model: "Perimeter"}
	}
	web.JSON(c, http.StatusOK, viewPerimeter(p))
	return nil
}

func (r routes) manageable(c *gin.Context) error {
	f, err := filterIfAny(c)
	if err != nil {
		return err
	}
	list, err := r.service.Manageable(c.Request.Context(), callerOf(c), f)
	if err != nil {
		return err
	}
	views := make([]perimeterLite, len(list))
	for i, p := range list {
		views[i] = viewLite(p)
	}
	web.JSON(c, http.StatusOK, views)
	return nil
}

// readRights answers {} instead of an envelope without rows: clients know it so (accesses.md 2.2). Without parameters it
// answers all topmost perimeters: the front-end makes the roots of its tree of them (clients.md 6).
func (r routes) readRights(c *gin.Context) error {
	f, err := filterIfAny(c)
	if err != nil {
		return err
	}
	page := web.OffsetPage(c)
	if f == nil {
		page = web.WholePage(c)
	}
	found, total, err := r.service.ReadablePerimeters(c.Request.Context(), callerOf(c), f, page)
	if err != nil {
		return err
	}
	if len(found.Rights) == 0 {
		web.JSON(c, http.StatusOK, struct{}{})
		return nil
	}
	views := make([]readRightView, len(found.Rights))
	for i, right := range found.Rights {
		views[i] = readRightView{
			Perimeter: viewLite(right.Perimeter), ReadRole: readsPseudonymized, Nominative: right.Nominative, Pseudonymized: true,
			SearchByIPP: found.SearchByIPP, ReadOpposed: found.SearchOpposed,
		}
		if right.Nominative {
			views[i].ReadRole = readsNominative
		}
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

// patientData is asked by the FHIR server. The ids are taken as they are, blanks included (accesses.md 6.8).
func (r routes) patientData(c *gin.Context) error {
	ids, there := c.GetQuery("cohort_ids")
	if !there {
		return badRequest("Missing `cohort_ids` parameter")
	}
	mode := c.Query("mode")
	if mode != "min" && mode != "max" {
		return badRequest("Patient data reading `mode` is missing or has invalid value")
	}
	if strings.ContainsRune(ids, 0) {
		return fault.Field("cohort_ids", "Null characters are not allowed.")
	}
	read, err := r.service.PatientData(c.Request.Context(), callerOf(c).Username, strings.Split(ids, ","), mode == "min")
	return answer(c, read, err)
}
