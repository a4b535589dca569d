package simulate

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/hospital"
	"cohortflow/internal/simulate/oidcsim"
)

// call makes a request and returns status and body.
func (b *bundle) call(t *testing.T, method, address, token string, body io.Reader, contentType string) (int, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, address, body)
	require.NoError(t, err)
	request.Header.Set("auth-token", token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, data
}

func (b *bundle) launch(t *testing.T, yaml, token string) (int, map[string]string) {
	t.Helper()
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("yaml_file", "yaml_file.yaml")
	require.NoError(t, err)
	_, err = io.WriteString(part, yaml)
	require.NoError(t, err)
	require.NoError(t, parts.Close())
	status, body := b.call(t, http.MethodPost, b.Addresses().Export+"/yaml", token, &form, parts.FormDataContentType())
	var answer map[string]string
	require.NoError(t, json.Unmarshal(body, &answer))
	return status, answer
}

func (b *bundle) taskStatus(t *testing.T, address, id, token string) string {
	t.Helper()
	status, body := b.call(t, http.MethodGet, address+"/task_status?return_out_logs=True&return_err_logs=True&task_uuid="+id, token, nil, "")
	require.Equal(t, 200, status)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(body, &answer))
	return answer["task_status"].(string)
}

func TestAnExportEndsInAZipOnHDFS(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.ExportToken = "export" })
	members := hospital.NewSet(b.Hospital().Size())
	members.Add(4)
	members.Add(5)
	id, err := b.Lists().Put(hospital.List{Kind: hospital.Patients, Members: members, Indexed: true})
	require.NoError(t, err)
	status, answer := b.launch(t, fmt.Sprintf("output:\n  type: csv\n  filePath: /exports/e.zip\ntablesToExport:\n- tableName: person\n  cohortId: '%d'\n"+
		"  columnsToExport:\n  - person_id\n- tableName: visit_occurrence\n- tableName: unheard_of\n", id), "export")
	require.Equal(t, 200, status)
	require.Equal(t, "FinishedSuccessfully", b.taskStatus(t, b.Addresses().Export, answer["task_id"], "export"))
	require.Contains(t, b.Export().Tasks().Documents()[0], "person_id")

	hdfs := b.Addresses().WebHDFS + "/webhdfs/v1"
	_, stat := b.call(t, http.MethodGet, hdfs+"/exports/e.zip?op=GETFILESTATUS", "", nil, "")
	code, data := b.call(t, http.MethodGet, hdfs+"/exports/e.zip?op=OPEN&offset=0", "", nil, "")
	require.Equal(t, 200, code)
	require.Contains(t, string(stat), fmt.Sprintf(`"length":%d`, len(data)))
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	require.Len(t, archive.File, 3)
	rows := func(i int) [][]string {
		file, err := archive.File[i].Open()
		require.NoError(t, err)
		all, err := csv.NewReader(file).ReadAll()
		require.NoError(t, err)
		return all
	}
	require.Equal(t, [][]string{{"person_id"}, {"1000004"}, {"1000005"}}, rows(0))
	visits := 0
	for _, p := range []int32{4, 5} {
		from, to := b.Hospital().Span(hospital.Encounters, p)
		visits += int(to - from)
	}
	require.Len(t, rows(1), visits+1)
	require.Len(t, rows(2), 1)
}

func TestExportRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.ExportToken = "export"; c.TaskDuration = time.Hour })
	status, _ := b.launch(t, "{}", "wrong")
	require.Equal(t, 401, status)
	for name, yaml := range map[string]string{"NoPerson": "output: {type: csv, filePath: /x}\ntablesToExport: [{tableName: note}]",
		"PersonWithoutCohort": "output: {type: csv, filePath: /x}\ntablesToExport: [{tableName: person}]", "NotYAML": ":\t{", "UnknownType": "output: {type: pdf}",
		"NoPath": "output: {type: csv}", "NoDatabase": "output: {type: hive}"} {
		status, answer := b.launch(t, yaml, "export")
		require.Equal(t, 422, status, name)
		require.NotEmpty(t, answer["detail"], name)
	}
	require.Equal(t, "NotFound", b.taskStatus(t, b.Addresses().Export, "nobody", "export"))
	_, answer := b.launch(t, "output: {type: csv, filePath: /x}\ntablesToExport: [{tableName: person, cohortId: '17'}]", "export")
	require.Equal(t, "Received", b.taskStatus(t, b.Addresses().Export, answer["task_id"], "export"))
}

func TestAnExportOfAnUnknownCohortFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, answer := b.launch(t, "output: {type: csv, filePath: /x}\ntablesToExport: [{tableName: person, cohortId: '17'}]", "")
	require.Equal(t, "FinishedWithError", b.taskStatus(t, b.Addresses().Export, answer["task_id"], ""))
}

func TestHadoop(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) { c.HadoopToken = "h" })
	base := b.Addresses().Hadoop + "/hadoop"
	chown := base + "/hdfs/chown_directory?gid=hdfs&recursive=True&uid=lab&location=/d/x.db"
	_, body := b.call(t, http.MethodPost, chown, "h", nil, "")
	require.Contains(t, string(body), `"status":"error"`, "the database does not exist yet")
	status, body := b.call(t, http.MethodPost, base+"/hive/create_base_hive?name=x&location=/d/x.db&if_not_exists=True", "h", nil, "")
	require.Equal(t, 200, status)
	var answer map[string]string
	require.NoError(t, json.Unmarshal(body, &answer))
	require.Equal(t, "FinishedSuccessfully", b.taskStatus(t, base, answer["task_id"], "h"))
	require.Equal(t, map[string]string{"x": "/d/x.db"}, b.Hadoop().Databases())
	_, body = b.call(t, http.MethodPost, chown, "h", nil, "")
	require.Contains(t, string(body), `"ret_code":0`)
	require.Equal(t, "lab", b.Hadoop().Owner("/d/x.db"))
	status, _ = b.call(t, http.MethodPost, chown, "wrong", nil, "")
	require.Equal(t, 401, status)
}

func TestWebHDFS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	base := b.Addresses().WebHDFS + "/webhdfs/v1"
	status, _ := b.call(t, http.MethodGet, base+"/?op=GETFILESTATUS", "", nil, "")
	require.Equal(t, 200, status)
	status, body := b.call(t, http.MethodGet, base+"/a/b.txt?op=GETFILESTATUS", "", nil, "")
	require.Equal(t, 404, status)
	require.Contains(t, string(body), "FileNotFoundException")
	status, _ = b.call(t, http.MethodPut, base+"/a/b.txt?op=CREATE", "", strings.NewReader("0123456789"), "application/octet-stream")
	require.Equal(t, 201, status)
	_, body = b.call(t, http.MethodGet, base+"/a/b.txt?op=OPEN&offset=3&length=4", "", nil, "")
	require.Equal(t, "3456", string(body))
	status, _ = b.call(t, http.MethodGet, base+"/a/b.txt?op=OPEN&offset=11", "", nil, "")
	require.Equal(t, 400, status)
	_, body = b.call(t, http.MethodGet, base+"/a?op=LISTSTATUS", "", nil, "")
	require.Contains(t, string(body), `"pathSuffix":"b.txt"`)
	status, _ = b.call(t, http.MethodGet, base+"/../../../etc/passwd?op=OPEN", "", nil, "")
	require.Equal(t, 404, status, "no path leads out of the directory")
	_, body = b.call(t, http.MethodDelete, base+"/a/b.txt?op=DELETE&recursive=False", "", nil, "")
	require.JSONEq(t, `{"boolean":true}`, string(body))
	_, body = b.call(t, http.MethodDelete, base+"/a/b.txt?op=DELETE&recursive=False", "", nil, "")
	require.JSONEq(t, `{"boolean":false}`, string(body))
	b.HDFS().SetStandby(true)
	status, body = b.call(t, http.MethodGet, base+"/?op=GETFILESTATUS", "", nil, "")
	require.Equal(t, 403, status)
	require.Contains(t, string(body), "StandbyException")
	require.NoError(t, b.Faults().Set(faultplan.Rule{Peer: "webhdfs", Action: faultplan.Status, Code: 401}))
	status, _ = b.call(t, http.MethodGet, base+"/?op=GETFILESTATUS", "", nil, "")
	require.Equal(t, 401, status)
}

func TestLoginAtTheIssuer(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *Config) {
		c.OIDCUsers = []oidcsim.User{{Username: "u1", FirstName: "Une", LastName: "Lavande", Email: "u1@example.org"}}
		c.OIDCClients = []oidcsim.Client{{ID: "cohort360", Secret: "s", RedirectURIs: []string{"http://front/*"}}}
		c.OIDCAutoLogin = "u1"
	})
	provider, err := oidc.NewProvider(t.Context(), b.Addresses().OIDC)
	require.NoError(t, err)
	app := oauth2.Config{ClientID: "cohort360", ClientSecret: "s", RedirectURL: "http://front/x", Endpoint: provider.Endpoint(), Scopes: []string{"openid"}}
	code := func(t *testing.T) string {
		browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		response, err := browser.Get(app.AuthCodeURL("state"))
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		target, err := url.Parse(response.Header.Get("Location"))
		require.NoError(t, err)
		require.Equal(t, "state", target.Query().Get("state"))
		return target.Query().Get("code")
	}
	one := code(t)
	tokens, err := app.Exchange(t.Context(), one)
	require.NoError(t, err)
	_, err = app.Exchange(t.Context(), one)
	require.Error(t, err, "a code is good for one use")

	verify := func(raw string) error {
		token, err := provider.Verifier(&oidc.Config{ClientID: "cohort360"}).Verify(t.Context(), raw)
		if err == nil {
			var claims map[string]any
			require.NoError(t, token.Claims(&claims))
			require.Equal(t, "u1", claims["preferred_username"])
			require.Equal(t, "cohort360", claims["azp"])
		}
		return err
	}
	require.NoError(t, verify(tokens.AccessToken))
	require.NoError(t, b.OIDC().RotateKeys(false))
	require.NoError(t, verify(tokens.AccessToken), "the old key is still shown")
	renewed, err := app.TokenSource(t.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token()
	require.NoError(t, err)
	require.NoError(t, verify(renewed.AccessToken))
	require.NoError(t, b.OIDC().RotateKeys(true))
	provider, err = oidc.NewProvider(t.Context(), b.Addresses().OIDC)
	require.NoError(t, err)
	require.Error(t, verify(renewed.AccessToken), "retired keys are not shown")

	form := url.Values{"client_id": {"cohort360"}, "client_secret": {"s"}, "refresh_token": {renewed.RefreshToken}}
	status, _ := b.call(t, http.MethodPost, b.Addresses().OIDC+"/protocol/openid-connect/logout", "", strings.NewReader(form.Encode()), "application/x-www-form-urlencoded")
	require.Equal(t, 204, status)
	_, err = app.TokenSource(t.Context(), &oauth2.Token{RefreshToken: renewed.RefreshToken}).Token()
	require.Error(t, err, "the session has ended")

	wrong := app
	wrong.ClientSecret = "t"
	_, err = wrong.Exchange(t.Context(), code(t))
	require.ErrorContains(t, err, "invalid_client")
	elsewhere := app
	elsewhere.RedirectURL = "http://front/y"
	_, err = elsewhere.Exchange(t.Context(), code(t))
	require.ErrorContains(t, err, "Code not valid")
}

func TestSMTPFaults(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]faultplan.Rule{
		"RefusesTheRecipient": {Action: faultplan.Status, Code: 450, Stage: "RCPT"},
		"RefusesTheMessage":   {Action: faultplan.Status, Code: 554, Stage: "BODY"},
		"Busy":                {Action: faultplan.Status, Code: 421, Stage: "CONNECT"},
		"BreaksOff":           {Action: faultplan.Reset, Stage: "DATA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			rule.Peer = "smtp"
			require.NoError(t, b.Faults().Set(rule))
			require.Error(t, sendMail(b, "x"))
			require.Empty(t, b.Inbox().Mails())
			require.NoError(t, b.Faults().Set())
			require.NoError(t, sendMail(b, "y"))
			require.Len(t, b.Inbox().To("B@example.org"), 1)
		})
	}
}
