package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/platform/web/webtest"
)

// pages serves a list of total rows, none of which is real.
func pages(t *testing.T, total int64) *webtest.Client {
	t.Helper()
	return webtest.New(t, webtest.Tables{{
		{Method: "GET", Path: "/numbered/", Out: web.PageOf[int]{}, Paged: web.ByPage, For: web.Anyone, Do: func(c *gin.Context) error {
			p, err := web.NumberedPage(c)
			if err != nil {
				return err
			}
			if p, err = p.Fit(total); err != nil {
				return err
			}
			web.JSON(c, 200, web.Envelope(c, p, total, []int{p.Limit, p.Offset}))
			return nil
		}},
		{Method: "GET", Path: "/offset/", Out: web.PageOf[int]{}, Paged: web.ByOffset, For: web.Anyone, Do: func(c *gin.Context) error {
			p := web.OffsetPage(c)
			web.JSON(c, 200, web.Envelope(c, p, total, []int{p.Limit, p.Offset}))
			return nil
		}},
	}})
}

func TestPages(t *testing.T) {
	t.Parallel()
	none := "-"
	for name, tt := range map[string]struct {
		total                int64
		path, next, previous string
		limit, offset        int
	}{
		"First":               {41, "/numbered/", "/numbered/?page=2", none, 20, 0},
		"SecondDropsPage":     {41, "/numbered/?page=2&b=x%20y&a=1,2", "/numbered/?a=1%2C2&b=x+y&page=3", "/numbered/?a=1%2C2&b=x+y", 20, 20},
		"Last":                {41, "/numbered/?page=last", none, "/numbered/?page=2", 20, 40},
		"LastOfNothing":       {0, "/numbered/?page=last", none, none, 20, 0},
		"FirstOfNothing":      {0, "/numbered/?page=1", none, none, 20, 0},
		"PageSizeIsIgnored":   {21, "/numbered/?page_size=3", "/numbered/?page=2&page_size=3", none, 20, 0},
		"Offset":              {4, "/offset/?offset=1&limit=2&ordering=n", "/offset/?limit=2&offset=3&ordering=n", "/offset/?limit=2&ordering=n", 2, 1},
		"OffsetPastTheEnd":    {4, "/offset/?limit=1&offset=40", none, "/offset/?limit=1&offset=39", 1, 40},
		"OffsetOverflows":     {4, "/offset/?limit=2&offset=9223372036854775807", none, "/offset/?limit=2&offset=9223372036854775805", 2, 9223372036854775807},
		"LimitOverflows":      {4, "/offset/?limit=9223372036854775807&offset=1", none, "/offset/?limit=9223372036854775807", 9223372036854775807, 1},
		"NegativeLimit":       {40000, "/offset/?limit=-1", "/offset/?limit=30000&offset=30000", none, 30000, 0},
		"LimitOfNothing":      {21, "/offset/?limit=0", "/offset/?limit=20&offset=20", none, 20, 0},
		"LimitOfNonsense":     {3, "/offset/?limit=many&offset=two&page=9", none, none, 20, 0},
		"NegativeOffset":      {3, "/offset/?limit=1.5&offset=-5", none, none, 20, 0},
		"BlankParametersStay": {3, "/offset/?fhir=&limit=1&offset=1", "/offset/?fhir=&limit=1&offset=2", "/offset/?fhir=&limit=1", 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var page web.PageOf[int]
			pages(t, tt.total).With("X-Forwarded-Proto", "https").GET(tt.path).Status(200).Into(&page)
			link := func(p *string) string {
				if p == nil {
					return none
				}
				require.True(t, strings.HasPrefix(*p, "https://example.com"), *p)
				return strings.TrimPrefix(*p, "https://example.com")
			}
			require.Equal(t, tt.next, link(page.Next))
			require.Equal(t, tt.previous, link(page.Previous))
			require.Equal(t, tt.total, page.Count)
			require.Equal(t, []int{tt.limit, tt.offset}, page.Results)
		})
	}
	for _, wrong := range []string{"0", "-1", "first", "4", "1.0", "99999999999999999999", "2147483648000"} {
		pages(t, 41).GET("/numbered/?page=" + wrong).Status(404).Is(`{"detail":"Invalid page."}`)
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	read := func(read func(q *web.Query) any) *webtest.Client {
		return webtest.New(t, webtest.Tables{{{Method: "GET", Path: "/", Out: nil, Status: 299, For: web.Anyone, Do: func(c *gin.Context) error {
			q := web.QueryOf(c)
			v := read(q)
			if err := q.Err(); err != nil {
				return err
			}
			raw, err := json.Marshal(v)
			if err != nil {
				return err
			}
			c.Header("X-Value", string(raw))
			web.Empty(c, 299)
			return nil
		}}}})
	}
	text := func(q *web.Query) any { return q.Text("v") }
	number := func(q *web.Query) any { return q.Number("v") }
	moment := func(q *web.Query) any { return q.Time("v") }
	order := func(q *web.Query) any { return q.Ordering("a", "b", "-c") }
	search := func(q *web.Query) any { return q.Search() }
	for name, tt := range map[string]struct {
		read  func(q *web.Query) any
		query string
		want  string // JSON; or the refusal
	}{
		"Text":                 {text, "v=%20a%20", `"a"`},
		"TextTheLastCounts":    {text, "v=a&v=b", `"b"`},
		"TextWithNUL":          {text, "v=%00", `{"v":["Null characters are not allowed."]}`},
		"Number":               {number, "v=12.5", `12.5`},
		"NumberEmpty":          {number, "v=", `null`},
		"NumberWrong":          {number, "v=x", `{"v":["Enter a number."]}`},
		"NumberNaN":            {number, "v=NaN", `{"v":["Enter a number."]}`},
		"NumberInfinite":       {number, "v=1e999", `{"v":["Enter a number."]}`},
		"BoolAnyCase":          {func(q *web.Query) any { return q.Bool("v") }, "v=TRUE", `true`},
		"BoolNonsenseIsNone":   {func(q *web.Query) any { return q.Bool("v") }, "v=undefined", `null`},
		"Day":                  {moment, "v=2026-11-22", `"2026-11-22T00:00:00Z"`},
		"MomentWithBlank":      {moment, "v=2026-11-22%2009:00:00", `"2026-11-22T09:00:00Z"`},
		"MomentWithOffset":     {moment, "v=2026-11-22T09:00:00%2B02:00", `"2026-11-22T07:00:00Z"`},
		"MomentWrong":          {moment, "v=2003-06-31", `{"v":["Enter a valid date/time."]}`},
		"UUID":                 {func(q *web.Query) any { return q.UUID("v") }, "v=0189abcd000040008000000000000000", `"0189abcd-0000-4000-8000-000000000000"`},
		"UUIDWrong":            {func(q *web.Query) any { return q.UUID("v") }, "v=1", `{"v":["“1” is not a valid UUID."]}`},
		"Choice":               {func(q *web.Query) any { return q.Choice("v", "x", "y") }, "v=y", `"y"`},
		"ChoiceWrong":          {func(q *web.Query) any { return q.Choice("v", "x", "y") }, "v=z", `{"v":["Select a valid choice. z is not one of the available choices."]}`},
		"List":                 {func(q *web.Query) any { return q.List("v") }, "v=a,%20b", `["a","b"]`},
		"Ordering":             {order, "ordering=-a,,b,-c", `[{"Name":"a","Desc":true},{"Name":"b","Desc":false},{"Name":"c","Desc":true}]`},
		"OrderingUnknown":      {order, "ordering=password", `{"ordering":["Select a valid choice. password is not one of the available choices."]}`},
		"OrderingOneDirection": {order, "ordering=c", `{"ordering":["Select a valid choice. c is not one of the available choices."]}`},
		"SearchTerms":          {search, "search=a%20b,c%20%22d%20e%22%20'f%20g'", `["a","b","c","d e","f g"]`},
		"SearchOfQuotes":       {search, "search=%22%22%20%20%22", `null`},
		"SearchIsLiteral":      {search, "search=(a.*", `["(a.*"]`},
		"SearchWithNUL":        {search, "search=%00", `["Null characters are not allowed."]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := read(tt.read).For(t).GET("/?" + tt.query)
			if a.Code == 400 {
				a.Is(tt.want)
				return
			}
			a.Status(299)
			require.JSONEq(t, tt.want, a.Header.Get("X-Value"))
		})
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	const datetime = "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
	str := func(rules ...web.Rule) func(f *web.Fields) any {
		return func(f *web.Fields) any { return f.String("v", rules...).Ptr() }
	}
	integer := func(f *web.Fields) any { return f.Int("v", web.Between(-5, 5)).Ptr() }
	boolean := func(f *web.Fields) any { return f.Bool("v").Ptr() }
	moment := func(f *web.Fields) any { return f.Time("v").Ptr() }
	ref := func(f *web.Fields) any { return f.Ref("v", web.Nullable).Ptr() }
	for name, tt := range map[string]struct {
		read    func(f *web.Fields) any
		body    string
		want    string // JSON of the value
		message string
	}{
		"Absent":               {str(web.Required), `{}`, ``, web.MsgRequired},
		"AbsentIsFine":         {str(), `{}`, `null`, ``},
		"Null":                 {str(), `{"v":null}`, ``, web.MsgNull},
		"NullIsFine":           {str(web.Nullable), `{"v":null}`, `null`, ``},
		"Blank":                {str(), `{"v":"  "}`, ``, web.MsgBlank},
		"BlankIsFine":          {str(web.Blank), `{"v":"  "}`, `""`, ``},
		"Trimmed":              {str(), `{"v":" a\t"}`, `"a"`, ``},
		"Untrimmed":            {str(web.Untrimmed), `{"v":" a "}`, `" a "`, ``},
		"NumberAsText":         {str(), `{"v":42}`, `"42"`, ``},
		"BoolIsNoText":         {str(), `{"v":true}`, ``, "Not a valid string."},
		"ListIsNoText":         {str(), `{"v":["a"]}`, ``, "Not a valid string."},
		"TextTooLong":          {str(web.MaxLen(2)), `{"v":"ééé"}`, ``, "Ensure this field has no more than 2 characters."},
		"LengthInCharacters":   {str(web.MaxLen(2)), `{"v":"éé"}`, `"éé"`, ``},
		"TextTooShort":         {str(web.MinLen(2)), `{"v":"é"}`, ``, "Ensure this field has at least 2 characters."},
		"NUL":                  {str(), `{"v":"a\u0000"}`, ``, "Null characters are not allowed."},
		"Int":                  {integer, `{"v":5}`, `5`, ``},
		"IntInAText":           {integer, `{"v":" -5 "}`, `-5`, ``},
		"IntWithZeros":         {integer, `{"v":"4.00"}`, `4`, ``},
		"IntTooLarge":          {integer, `{"v":6}`, ``, "Ensure this value is less than or equal to 5."},
		"IntTooSmall":          {integer, `{"v":-6}`, ``, "Ensure this value is greater than or equal to -5."},
		"IntFraction":          {integer, `{"v":1.5}`, ``, "A valid integer is required."},
		"IntHuge":              {integer, `{"v":99999999999999999999999}`, ``, "A valid integer is required."},
		"IntBool":              {integer, `{"v":true}`, ``, "A valid integer is required."},
		"Bool":                 {boolean, `{"v":"on"}`, `true`, ``},
		"BoolOfANumber":        {boolean, `{"v":0}`, `false`, ``},
		"BoolWrong":            {boolean, `{"v":"maybe"}`, ``, "Must be a valid boolean."},
		"BoolOfAList":          {boolean, `{"v":[]}`, ``, "Must be a valid boolean."},
		"Float":                {func(f *web.Fields) any { return f.Float("v").Ptr() }, `{"v":"1.5"}`, `1.5`, ``},
		"FloatWrong":           {func(f *web.Fields) any { return f.Float("v").Ptr() }, `{"v":"Infinity"}`, ``, "A valid number is required."},
		"MomentWithoutSeconds": {moment, `{"v":"2001-05-06T01:02"}`, `"2001-05-06T01:02:00Z"`, ``},
		"MomentOfADay":         {moment, `{"v":"2001-05-06"}`, `"2001-05-06T00:00:00Z"`, ``},
		"MomentShortOffset":    {moment, `{"v":"2001-05-06T02:00:00+0100"}`, `"2001-05-06T01:00:00Z"`, ``},
		"MomentWithFraction":   {moment, `{"v":"2001-05-06T07:08:09.1234567Z"}`, `"2001-05-06T07:08:09.123456Z"`, ``},
		"MomentThatIsNone":     {moment, `{"v":"2001-02-30T00:00:00Z"}`, ``, datetime},
		"MomentOfANumber":      {moment, `{"v":7}`, ``, datetime},
		"MomentEmpty":          {moment, `{"v":""}`, ``, datetime},
		"Choice":               {func(f *web.Fields) any { return f.Choice("v", []string{"a"}).Ptr() }, `{"v":"b"}`, ``, `"b" is not a valid choice.`},
		"RefEmptyMeansNull":    {ref, `{"v":" "}`, `null`, ``},
		"RefWrong":             {ref, `{"v":"x"}`, ``, "“x” is not a valid UUID."},
		"RefOfABool":           {ref, `{"v":true}`, ``, "Incorrect type. Expected pk value, received bool."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, err := web.DecodeJSON([]byte(tt.body))
			require.NoError(t, err)
			f := web.FieldsOf(v.(map[string]any), false)
			got := tt.read(f)
			if tt.message != "" {
				require.Error(t, f.Err())
				require.Equal(t, []any{tt.message}, f.Messages("v"))
				return
			}
			require.NoError(t, f.Err())
			raw, err := json.Marshal(got)
			require.NoError(t, err)
			require.JSONEq(t, tt.want, string(raw))
		})
	}
	partial := web.FieldsOf(web.Object{}, true)
	partial.String("v", web.Required)
	require.NoError(t, partial.Err(), "a partial body may leave fields out")
}

// TestBounds: what a database could not take, or would take minutes for, is refused; what merely repeats itself is not.
func TestBounds(t *testing.T) {
	t.Parallel()
	numbers := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = strconv.Itoa(i)
		}
		return strings.Join(list, ",")
	}
	for name, tt := range map[string]struct {
		parameter, value string
		values           int // 0: refused
	}{
		"Values":         {"list", numbers(web.MaxItems), web.MaxItems},
		"TooManyValues":  {"list", numbers(web.MaxItems + 1), 0},
		"RepeatedValues": {"list", strings.Repeat("9, ,", web.MaxItems) + "101", 3},
		"Terms":          {"search", numbers(100), 100},
		"TooManyTerms":   {"search", numbers(101), 0},
		"RepeatedTerms":  {"search", strings.Repeat("a ", 10_000) + "b", 2},
		"Orders":         {"ordering", strings.Repeat("name,-name,", 10_000) + "-id", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := gin.CreateTestContext(httptest.NewRecorder())
			c.Request = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+url.Values{tt.parameter: {tt.value}}.Encode(), nil)
			q := web.QueryOf(c)
			found := len(q.List("list")) + len(q.Search()) + len(q.Ordering("name", "id"))
			require.Equal(t, tt.values, found)
			var invalid *fault.Invalid
			require.Equal(t, tt.values == 0, errors.As(q.Err(), &invalid) && invalid.Has(tt.parameter))
		})
	}
}

func TestParseDatetimeKeepsToYearsThatCanBeWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0001-01-01T00:00:00Z": true, "0001-01-01T00:00:00+00:01": false, "0000-12-31": false,
		"9999-12-31T23:59:59Z": true, "9999-12-31T23:59:59-00:01": false, "10000-01-01": false,
	} {
		_, ok := web.ParseDatetime(text)
		require.Equal(t, want, ok, text)
	}
}

func TestIntRefOutsideOfItsKeysIsNoRow(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"1": true, "2147483647": true, "2147483648": false, "0": false} {
		f := web.FieldsOf(web.Object{"role_id": json.Number(value)}, false)
		ref := f.IntRef("role_id", web.Between(1, 1<<31-1))
		require.Equal(t, want, ref.Set, value)
		require.Equal(t, !want, f.Has("role_id"), value)
	}
}

func TestDatetime(t *testing.T) {
	t.Parallel()
	for want, moment := range map[string]time.Time{
		"2026-11-22T09:00:00Z":        time.Date(2026, 11, 22, 10, 0, 0, 0, time.FixedZone("", 3600)),
		"2026-11-22T09:00:00.120000Z": time.Date(2026, 11, 22, 9, 0, 0, 120_000_000, time.UTC),
		"2026-11-22T09:00:01Z":        time.Date(2026, 11, 22, 9, 0, 1, 999, time.UTC),
	} {
		raw, err := json.Marshal(web.DatetimeOf(&moment))
		require.NoError(t, err)
		require.Equal(t, `"`+want+`"`, string(raw))
	}
	require.Nil(t, web.DatetimeOf(nil))
}

func TestDocumentation(t *testing.T) {
	t.Parallel()
	server := web.New(web.Config{}, web.Table{{Method: "GET", Path: "/things/", Summary: "List <things>", Tag: "things", Out: map[string]string{}, For: web.Anyone, Do: func(*gin.Context) error { return nil }}})
	server.Documentation("9.9")
	client := webtest.Of(t, server)
	a := client.GET("/schema").Status(200)
	require.Equal(t, "application/vnd.oai.openapi; charset=utf-8", a.Header.Get("Content-Type"))
	require.Equal(t, `inline; filename="Cohort360-Backend.yaml"`, a.Header.Get("Content-Disposition"))
	require.Regexp(t, `^openapi: .?3\.0\.\d`, string(a.Body))
	a = client.With("Accept", "application/json,*/*").GET("/schema/").Status(200)
	require.Equal(t, "application/json", a.Header.Get("Content-Type"))
	require.Equal(t, "Cohort360-Backend", a.Object()["info"].(map[string]any)["title"])
	a = client.GET("/schema?format=json").Status(200)
	require.Equal(t, "application/vnd.oai.openapi+json", a.Header.Get("Content-Type"))
	require.Equal(t, `inline; filename="Cohort360-Backend.json"`, a.Header.Get("Content-Disposition"))
	for path, text := range map[string]string{"/docs": "swagger", "/redoc/": "List &lt;things&gt;"} {
		a = client.GET(path).Status(200)
		require.Contains(t, a.Header.Get("Content-Type"), "text/html")
		require.Contains(t, strings.ToLower(string(a.Body)), strings.ToLower(text))
	}
	require.Contains(t, strings.ToLower(string(client.GET("/redoc/").Body)), "redoc")
	for _, path := range []string{"/docs/", "/redoc", "/schema-x", "/schemas"} {
		client.GET(path).Status(404)
	}
}
