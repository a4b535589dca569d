package identity

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

const userLogView = "admin_cohort.views.users.UserViewSet"

type userBody struct {
	Username  string  `json:"username"`
	Firstname *string `json:"firstname"`
	Lastname  *string `json:"lastname"`
	Email     *string `json:"email"`
	Password  string  `json:"password,omitempty"`
}

type userRoutes struct{ users *Users }

// Table is the users API (contract: system.md 5).
func (u *Users) Table() web.Table {
	r := userRoutes{u}
	switches := []web.Param{
		{Name: "manual_only", Type: "boolean", Doc: "only users with a profile made by hand"},
		{Name: "with_access", Type: "boolean", Doc: "only users with a current access"},
	}
	filters := append([]web.Param{
		{Name: "username", Type: "string", Doc: "contained"}, {Name: "firstname", Type: "string", Doc: "contained"},
		{Name: "lastname", Type: "string", Doc: "contained"}, {Name: "email", Type: "string", Doc: "contained"},
		{Name: "search", Type: "string", Doc: "terms contained in names, username or e-mail"},
		{Name: "ordering", Type: "string", Doc: "firstname, lastname, username, email, created_by, updated_by"},
	}, switches...)
	// The permission on users knows these methods; any other is forbidden to everybody (system.md 5.2).
	knows := []string{http.MethodGet, http.MethodPost, http.MethodPatch}
	return web.Table{
		{Method: "GET", Path: "/users/", Summary: "List users", Tag: "users", Query: filters, Paged: web.ByPage, Out: web.PageOf[UserView]{}, For: web.UserManager, Knows: knows, Do: r.list},
		{Method: "POST", Path: "/users/", Summary: "Create a user", Tag: "users", Body: userBody{}, Out: UserView{}, Status: 201, For: web.UserManager, Knows: knows, View: userLogView, Action: "create", Do: r.create},
		{Method: "GET", Path: "/users/:username/", Summary: "One user", Tag: "users", Query: switches, Out: UserView{}, For: web.UserManager, Knows: knows, Do: r.retrieve},
		{Method: "PATCH", Path: "/users/:username/", Summary: "Change a user", Tag: "users", Body: userBody{}, Out: UserView{}, For: web.UserManager, Knows: knows, View: userLogView, Action: "partial_update", Do: r.change},
		{Method: "GET", Path: "/users/:username/check/", Summary: "Look a person up, here and in the directory", Tag: "users", Out: Check{}, For: web.UserManager, Knows: knows, Do: r.check},
	}
}

// filterOf reads the two switches, which are JSON literals for the front-ends: true or false in any letter case.
func (r userRoutes) filterOf(c *gin.Context) (Filter, error) {
	f := Filter{Now: r.users.cfg.Clock.Now()}
	q := web.QueryOf(c)
	for name, target := range map[string]*bool{"manual_only": &f.ManualOnly, "with_access": &f.WithAccess} {
		switch text := strings.ToLower(q.Text(name)); text {
		case "", "false", "0", "null":
		case "true", "1":
			*target = true
		default:
			q.Refuse(name, "Must be a valid boolean.")
		}
	}
	return f, q.Err()
}

func (r userRoutes) list(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	f, err := r.filterOf(c)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	f.Username, f.Firstname, f.Lastname, f.Email = q.Text("username"), q.Text("firstname"), q.Text("lastname"), q.Text("email")
	f.Search, f.Order = q.Search(), q.Ordering("firstname", "lastname", "username", "email", "created_by", "updated_by")
	if err := q.Err(); err != nil {
		return err
	}
	rows, total, page, err := r.users.cfg.Store.List(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	views := make([]UserView, len(rows))
	for i, row := range rows {
		views[i] = row.view()
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, views))
	return nil
}

func (r userRoutes) retrieve(c *gin.Context) error {
	f, err := r.filterOf(c)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusOK, c.Param("username"), f)
}

func (r userRoutes) answer(c *gin.Context, status int, username string, f Filter) error {
	row, ok, err := r.users.cfg.Store.One(c.Request.Context(), username, f)
	if err != nil {
		return err
	}
	if !ok {
		return fault.NotFound{Model: "User"}
	}
	web.JSON(c, status, row.view())
	return nil
}

func (r userRoutes) create(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	user, err := r.users.Create(c.Request.Context(), CallerOf(c), body)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusCreated, user.Username, Filter{})
}

func (r userRoutes) change(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	user, err := r.users.Change(c.Request.Context(), CallerOf(c), c.Param("username"), body)
	if err != nil {
		return err
	}
	return r.answer(c, http.StatusOK, user.Username, Filter{})
}

func (r userRoutes) check(c *gin.Context) error {
	answer, err := r.users.Check(c.Request.Context(), c.Param("username"))
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, answer)
	return nil
}
