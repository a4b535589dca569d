package access

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// accessBody documents what is sent of a new access.
type accessBody struct {
	ProfileID   int64      `json:"profile_id"`
	RoleID      int64      `json:"role_id"`
	PerimeterID int64      `json:"perimeter_id"`
	Start       *time.Time `json:"start_datetime"`
	End         *time.Time `json:"end_datetime"`
}

// datesBody documents what can be changed of an access.
type datesBody struct {
	Start *time.Time `json:"start_datetime"`
	End   *time.Time `json:"end_datetime"`
}

var accessParams = []web.Param{
	{Name: "profile_id", Type: "integer"}, {Name: "role_id", Type: "integer"}, {Name: "source", Type: "string"},
	{Name: "start_datetime", Type: "date-time"}, {Name: "end_datetime", Type: "date-time"},
	{Name: "perimeter_id", Type: "integer", Doc: "only valid accesses on it"},
	{Name: "include_parents", Type: "boolean", Doc: "and those above it that have effect on it"},
	{Name: "include_children", Type: "boolean", Doc: "and those below it"},
	{Name: "search", Type: "string", Doc: "in the user's names and e-mail, the role's and the perimeter's name"},
	{Name: "ordering", Type: "string", Doc: strings.Join(accessOrders, ", ")},
	{Name: "expiring", Type: "boolean", Doc: "present: a shorter form"},
}

var accessOrders = []string{"start_datetime", "end_datetime", "created_by", "updated_by", "role_name", "perimeter_name", "is_valid"}

// literal reads true or false, in any case; nothing is false.
func literal(q *web.Query, name string) bool {
	switch strings.ToLower(q.Text(name)) {
	case "true":
		return true
	case "", "false":
		return false
	}
	q.Refuse(name, "Must be true or false.")
	return false
}

func (r routes) readAccessFilter(c *gin.Context) (f AccessFilter, err error) {
	q := web.QueryOf(c)
	f = AccessFilter{
		ProfileID: rowParam(q, "profile_id", rowKey), RoleID: rowParam(q, "role_id", rowKey), PerimeterID: rowParam(q, "perimeter_id", perimeterKey),
		Source: q.Text("source"), Start: q.Time("start_datetime"), End: q.Time("end_datetime"), Search: q.Search(),
		Order: q.Ordering(accessOrders...),
	}
	if f.PerimeterID != nil {
		f.IncludeParents, f.IncludeChildren = literal(q, "include_parents"), literal(q, "include_children")
	}
	if f.ProfileID != nil {
		if err := r.knownRow(c, q, "profile_id", "accesses_profile", "id", *f.ProfileID); err != nil {
			return f, err
		}
	}
	if f.RoleID != nil {
		if err := r.knownRow(c, q, "role_id", "accesses_role", "id", *f.RoleID); err != nil {
			return f, err
		}
	}
	return f, q.Err()
}

// accesses answers a bare [] instead of an envelope without rows: clients know it so (accesses.md 2.2).
func (r routes) accesses(c *gin.Context) error {
	f, err := r.readAccessFilter(c)
	if err != nil {
		return err
	}
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	list, total, page, err := r.service.ListAccesses(c.Request.Context(), callerOf(c), f, page)
	switch {
	case err != nil:
		return err
	case len(list) == 0:
		web.JSON(c, http.StatusOK, []accessView{})
	case expiring(c):
		web.JSON(c, http.StatusOK, web.Envelope(c, page, total, viewAll(list, viewExpiring)))
	default:
		web.JSON(c, http.StatusOK, web.Envelope(c, page, total, viewAll(list, viewAccess)))
	}
	return nil
}

func viewAll[V any](list []Detail, view func(*Detail) V) []V {
	views := make([]V, len(list))
	for i := range list {
		views[i] = view(&list[i])
	}
	return views
}

// expiring tells whether the parameter is there, whatever its value: it switches the form of all reads (accesses.md 12.1).
func expiring(c *gin.Context) bool {
	_, there := c.GetQuery("expiring")
	return there
}

func (r routes) myAccesses(c *gin.Context) error {
	q := web.QueryOf(c)
	soon := literal(q, "expiring")
	if err := q.Err(); err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), callerOf(c)
	if !soon {
		list, err := r.service.MyAccesses(ctx, caller)
		if expiring(c) {
			return answer(c, viewAll(list, viewExpiring), err)
		}
		return answer(c, viewAll(list, viewAccess), err)
	}
	list, err := r.service.MyExpiring(ctx, caller)
	if err == nil && len(list) == 0 {
		text := fmt.Sprintf("No accesses to expire in the next %d days", r.service.cfg.FirstAlertDays)
		return answer(c, map[string]string{"message": text}, nil)
	}
	return answer(c, viewAll(list, viewExpiring), err)
}

func (r routes) myDataRights(c *gin.Context) error {
	q := web.QueryOf(c)
	var ids []int64
	for _, text := range q.List("perimeters_ids") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fault.Text("`perimeters_ids` must be integers, got `" + text + "` instead")
		}
		ids = append(ids, id)
	}
	if err := q.Err(); err != nil {
		return err
	}
	rights, err := r.service.MyDataRights(c.Request.Context(), callerOf(c), ids)
	return answer(c, rights, err)
}

func (r routes) access(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	detail, err := r.service.GetAccess(c.Request.Context(), callerOf(c), id)
	if expiring(c) {
		return answer(c, viewExpiring(&detail), err)
	}
	return answer(c, viewAccess(&detail), err)
}

func (r routes) createAccess(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	var n NewAccess
	if n.Start, n.End, err = readDates(body); err != nil {
		return err
	}
	if err := r.service.dates(&n); err != nil { // dates come before all other complaints
		return err
	}
	f := web.FieldsOf(body, false)
	keys := web.Between(1, 1<<(rowKey-1)-1)
	n.ProfileID = f.IntRef("profile_id", web.Required, keys).Value
	n.RoleID = f.IntRef("role_id", web.Required, keys).Value
	n.PerimeterID = f.IntRef("perimeter_id", web.Required).Value
	if err := f.Err(); err != nil {
		return err
	}
	detail, err := r.service.CreateAccess(c.Request.Context(), callerOf(c), n)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewAccess(&detail))
	return nil
}

// readDates reads the two dates; null and an empty text are as good as nothing.
func readDates(body web.Object) (start, end *time.Time, err error) {
	given := web.Object{}
	for _, name := range dateFields {
		if v := body[name]; v != nil && v != "" {
			given[name] = v
		}
	}
	f := web.FieldsOf(given, true)
	start, end = f.Time("start_datetime").Ptr(), f.Time("end_datetime").Ptr()
	return start, end, f.Err()
}

var dateFields = []string{"start_datetime", "end_datetime"}

// patchAccess checks in the order of accesses.md 12.5: the access and the right to manage it come before the body.
func (r routes) patchAccess(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), callerOf(c)
	if _, err := r.service.GetAccess(ctx, caller, id); err != nil {
		return err
	}
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return badRequest(msgNoData)
	}
	for name, v := range body {
		if !slices.Contains(dateFields, name) {
			return badRequest(msgOnlyDates)
		}
		if v == nil || v == "" {
			err = badRequest(msgMissingDates)
		}
	}
	if err != nil {
		return err
	}
	start, end, err := readDates(body)
	if err != nil {
		return err
	}
	detail, err := r.service.PatchDates(ctx, caller, id, start, end)
	return answer(c, viewAccess(&detail), err)
}

func (r routes) closeAccess(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	detail, err := r.service.CloseAccess(c.Request.Context(), callerOf(c), id)
	return answer(c, viewAccess(&detail), err)
}

func (r routes) deleteAccess(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	if err := r.service.DeleteAccess(c.Request.Context(), callerOf(c), id); err != nil {
		return err
	}
	web.Empty(c, http.StatusNoContent)
	return nil
}
