package requestlog

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/platform/web"
)

// User is a user as every representation shows one (system.md 5.1); the two last are display names.
type User struct {
	Username    string  `json:"username"`
	Firstname   *string `json:"firstname"`
	Lastname    *string `json:"lastname"`
	Email       *string `json:"email"`
	DisplayName string  `json:"display_name"`
	CreatedBy   *string `json:"created_by"`
	UpdatedBy   *string `json:"updated_by"`
}

// Users finds the live users of these names, by name; app takes them from identity.
type Users interface {
	Views(ctx context.Context, usernames []string) (map[string]User, error)
}

// View is a row as the API shows it (system.md 6.2).
type View struct {
	ID                 int64        `json:"id"`
	UserDetails        *User        `json:"user_details"`
	UsernamePersistent *string      `json:"username_persistent"`
	RequestedAt        web.Datetime `json:"requested_at"`
	ResponseMs         int64        `json:"response_ms"`
	Path               string       `json:"path"`
	View               *string      `json:"view"`
	ViewMethod         *string      `json:"view_method"`
	RemoteAddr         *string      `json:"remote_addr"`
	Host               string       `json:"host"`
	Method             string       `json:"method"`
	UserAgent          string       `json:"user_agent"`
	QueryParams        *string      `json:"query_params"`
	Data               *string      `json:"data"`
	Response           *string      `json:"response"`
	Errors             *string      `json:"errors"`
	StatusCode         *int         `json:"status_code"`
	User               *string      `json:"user"`
}

// Item is a row of the list.
type Item struct {
	View
	// RelatedNames are the texts of the stored answer whose keys end in "name"; only old rows have a stored answer.
	RelatedNames *map[string]string `json:"related_names"`
}

func viewOf(r Row) View {
	return View{ID: r.ID, UsernamePersistent: r.UsernamePersistent, RequestedAt: web.Datetime(r.RequestedAt), ResponseMs: r.ResponseMs, Path: r.Path,
		View: r.View, ViewMethod: r.ViewMethod, RemoteAddr: address(r.RemoteAddr), Host: r.Host, Method: r.Method, UserAgent: r.UserAgent,
		QueryParams: r.QueryParams, Data: r.Data, Response: r.Response, Errors: r.Errors, StatusCode: r.StatusCode, User: r.UserID}
}

// address leaves out the mask with which PostgreSQL writes single addresses.
func address(stored *string) *string {
	if stored == nil {
		return nil
	}
	text := strings.TrimSuffix(strings.TrimSuffix(*stored, "/32"), "/128")
	return &text
}

type routes struct {
	log   *Log
	users Users
}

// Table is reading the rows (contract: system.md 6.2).
func (l *Log) Table(users Users) web.Table {
	r := routes{l, users}
	text := func(doc string, names ...string) (params []web.Param) {
		for _, n := range names {
			params = append(params, web.Param{Name: n, Type: "string", Doc: doc})
		}
		return params
	}
	params := append(text("contained", "path_contains", "response", "errors", "data", "search"),
		text("exact", "user", "username_persistent", "path", "view", "view_method", "remote_addr", "host", "user_agent", "query_params")...)
	params = append(params, text("comma list", "method", "status_code")...)
	params = append(params, web.Param{Name: "requested_at_after", Type: "date-time"}, web.Param{Name: "requested_at_before", Type: "date-time"},
		web.Param{Name: "response_ms_min", Type: "number"}, web.Param{Name: "response_ms_max", Type: "number"}, web.Param{Name: "id", Type: "number"},
		web.Param{Name: "ordering", Type: "string", Doc: "requested_at"})
	return web.Table{
		{Method: "GET", Path: "/logs/", Summary: "List logged requests", Tag: "request logs", Query: params, Paged: web.ByPage, Out: web.PageOf[Item]{}, For: web.FullAdmin, Do: r.list},
		{Method: "GET", Path: "/logs/:id/", Summary: "One logged request", Tag: "request logs", Out: View{}, For: web.FullAdmin, Do: r.retrieve},
	}
}

func (r routes) list(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	f, err := r.filterOf(c)
	if err != nil {
		return err
	}
	rows, total, page, err := r.log.List(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	users, err := r.users.Views(c.Request.Context(), usernames(rows))
	if err != nil {
		return err
	}
	items := make([]Item, len(rows))
	for i, row := range rows {
		items[i] = Item{View: viewOf(row), RelatedNames: relatedNames(row.Response)}
		if row.UsernamePersistent != nil {
			if u, live := users[*row.UsernamePersistent]; live {
				items[i].UserDetails = &u
			}
		}
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, page, total, items))
	return nil
}

func usernames(rows []Row) (names []string) {
	for _, r := range rows {
		if r.UsernamePersistent != nil {
			names = append(names, *r.UsernamePersistent)
		}
	}
	return names
}

func (r routes) filterOf(c *gin.Context) (Filter, error) {
	q := web.QueryOf(c)
	f := Filter{After: q.Time("requested_at_after"), Before: q.Time("requested_at_before"), MinMs: q.Number("response_ms_min"), MaxMs: q.Number("response_ms_max"),
		ID: q.Number("id"), RemoteAddr: q.Text("remote_addr"), Search: q.Search(), Order: q.Ordering("requested_at"),
		Contained: map[string]string{"path": q.Text("path_contains"), "response": q.Text("response"), "errors": q.Text("errors"), "data": q.Text("data")},
		Exact:     map[string]string{}}
	for _, name := range []string{"username_persistent", "path", "view", "view_method", "host", "user_agent", "query_params"} {
		f.Exact[name] = q.Text(name)
	}
	for _, method := range q.List("method") {
		f.Methods = append(f.Methods, strings.ToUpper(method))
	}
	for _, text := range q.List("status_code") {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			q.Refuse("status_code", "Enter a number.")
			break
		}
		f.Statuses = append(f.Statuses, int32(n))
	}
	if name := q.Text("user"); name != "" {
		found, err := r.users.Views(c.Request.Context(), []string{name})
		if err != nil {
			return Filter{}, err
		}
		if len(found) == 0 {
			q.Refuse("user", web.NoSuchChoice)
		}
		f.Exact["user_id"] = name
	}
	return f, q.Err()
}

func (r routes) retrieve(c *gin.Context) error {
	id, err := web.Number(c, "id")
	if err != nil {
		return err
	}
	row, err := r.log.Get(c.Request.Context(), id)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, viewOf(row))
	return nil
}

// relatedNames collects the texts of a stored answer whose keys end in "name", through nested objects but not lists; of
// several with one key the last wins. nil when there is no object.
func relatedNames(response *string) *map[string]string {
	if response == nil {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(*response)))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil
	}
	names := map[string]string{}
	if collectNames(dec, names) != nil {
		return nil
	}
	return &names
}

// collectNames reads to the end of an object whose beginning has been read.
func collectNames(dec *json.Decoder, names map[string]string) error {
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		switch value[0] {
		case '{':
			inner := json.NewDecoder(bytes.NewReader(value))
			if _, err := inner.Token(); err != nil {
				return err
			}
			if err := collectNames(inner, names); err != nil {
				return err
			}
		case '"':
			var text string
			name, _ := key.(string)
			if err := json.Unmarshal(value, &text); err == nil && strings.HasSuffix(name, "name") {
				names[name] = text
			}
		}
	}
	_, err := dec.Token()
	return err
}
