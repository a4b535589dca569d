package access

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/web"
)

// roleBody documents what is sent of a role.
type roleBody struct {
	Name *string `json:"name"`
	Flags
}

func roleParams() []web.Param {
	params := []web.Param{{Name: "name", Type: "string", Doc: "contained"}, {Name: "ordering", Type: "string", Doc: "name"}}
	for _, name := range rightNames {
		params = append(params, web.Param{Name: name, Type: "boolean"})
	}
	return params
}

func (r routes) roles(c *gin.Context) error {
	q := web.QueryOf(c)
	f := RoleFilter{Name: q.Text("name"), Order: q.Ordering("name")}
	for i, name := range rightNames {
		if held := q.Bool(name); held != nil && *held {
			f.With |= 1 << i
		} else if held != nil {
			f.Without |= 1 << i
		}
	}
	if err := q.Err(); err != nil {
		return err
	}
	page := web.OffsetPage(c)
	list, total, err := r.service.ListRoles(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, viewRoles(list)))
	return nil
}

func viewRoles(list []Role) []roleView {
	views := make([]roleView, len(list))
	for i := range list {
		views[i] = viewRole(&list[i])
	}
	return views
}

func (r routes) role(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	role, err := r.service.GetRole(c.Request.Context(), id)
	return answer(c, viewRole(&role), err)
}

// maxRoleName is far below what the index of names holds, whatever the characters.
const maxRoleName = 500

// readRole reads a role's body: a right that is not there stays as it is.
func readRole(c *gin.Context, partial bool) (p RolePatch, err error) {
	body, err := web.Body(c)
	if err != nil {
		return p, err
	}
	f := web.FieldsOf(body, partial)
	p.Name = f.String("name", web.Nullable, web.Blank, web.MaxLen(maxRoleName))
	for i, name := range rightNames {
		if held := f.Bool(name); held.Set && held.Value {
			p.Set |= 1 << i
		} else if held.Set {
			p.Cleared |= 1 << i
		}
	}
	return p, f.Err()
}

func (r routes) createRole(c *gin.Context) error {
	p, err := readRole(c, false)
	if err != nil {
		return err
	}
	role, err := r.service.CreateRole(c.Request.Context(), callerOf(c), p)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, viewRole(&role))
	return nil
}

func (r routes) patchRole(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	if _, err := r.service.GetRole(c.Request.Context(), id); err != nil { // before the body is looked at
		return err
	}
	p, err := readRole(c, true)
	if err != nil {
		return err
	}
	role, err := r.service.PatchRole(c.Request.Context(), callerOf(c), id, p)
	return answer(c, viewRole(&role), err)
}

func (r routes) deleteRole(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	if err := r.service.DeleteRole(c.Request.Context(), callerOf(c), id); err != nil {
		return err
	}
	web.Empty(c, http.StatusNoContent)
	return nil
}

func (r routes) assignable(c *gin.Context) error {
	q := web.QueryOf(c)
	text := q.Text("perimeter_id")
	if err := q.Err(); err != nil {
		return err
	}
	if text == "" {
		return badRequest("Missing parameter: `perimeter_id`")
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return badRequest("`perimeter_id` must be an integer")
	}
	list, err := r.service.AssignableRoles(c.Request.Context(), callerOf(c).Username, id)
	return answer(c, viewRoles(list), err)
}

var roleUserParams = []web.Param{
	{Name: "filter_by_name", Type: "string", Doc: "contained in the user name, first or last name"},
	{Name: "order", Type: "string", Doc: "username, firstname, lastname, email, perimeter, start_datetime, end_datetime; - for the reverse"},
	{Name: "page", Type: "integer", Doc: "pages of 20, unless limit or offset are given"},
}

// roleUsers answers 204 when nobody is left, and honours page, which the portal sends (accesses.md 10.6).
func (r routes) roleUsers(c *gin.Context) error {
	id, err := pathID(c, "id", rowKey)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	name, order := q.Text("filter_by_name"), q.Text("order")
	if err := q.Err(); err != nil {
		return err
	}
	page := web.OffsetPage(c)
	if c.Query("page") != "" && c.Query("limit") == "" && c.Query("offset") == "" {
		if page, err = web.NumberedPage(c); err != nil {
			return err
		}
	}
	users, err := r.service.RoleUsers(c.Request.Context(), id, name, order)
	if err != nil {
		return err
	}
	if len(users) == 0 {
		web.Empty(c, http.StatusNoContent)
		return nil
	}
	total := int64(len(users))
	if page, err = page.Fit(total); err != nil {
		return err
	}
	views := []roleUserView{}
	for _, u := range cut(users, page) {
		views = append(views, roleUserView{
			Username: deref(u.Holder.Username), Firstname: deref(u.Holder.Firstname), Lastname: deref(u.Holder.Lastname),
			Email: deref(u.Holder.Email), Perimeter: deref(u.PerimeterName),
			Start: spacedDatetime(u.StartDatetime), End: spacedDatetime(u.EndDatetime),
		})
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}
