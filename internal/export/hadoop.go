package export

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"cohortflow/internal/platform/httpclient"
)

// Hadoop is the Hadoop API, which makes Hive databases and gives them to users (exports.md 20, peers.md 6). What it is asked
// for may be asked for again: nothing is made twice.
type Hadoop struct{ remote }

// NewHadoop speaks to the API at base, with the token in its own header.
func NewHadoop(client *httpclient.Client, base, token string) *Hadoop {
	return &Hadoop{remote{http: client, peer: "hadoop_api", base: strings.TrimRight(base, "/"), token: token}}
}

// CreateDatabase begins to make a database and answers the id of the task. Errors are *failure.
func (h *Hadoop) CreateDatabase(ctx context.Context, name, location string) (taskID string, err error) {
	resp, err := h.do(ctx, h.request(http.MethodPost, "/hadoop/hive/create_base_hive",
		url.Values{"name": {name}, "location": {location}, "if_not_exists": {"True"}}))
	if err != nil {
		return "", err
	}
	return h.task(resp)
}

// Status asks about a task. Errors are *failure.
func (h *Hadoop) Status(ctx context.Context, taskID string) (status, error) {
	return h.status(ctx, "/hadoop/task_status", taskID)
}

// Grant gives a directory, with all that is in it, to a user. Errors are *failure.
func (h *Hadoop) Grant(ctx context.Context, location, user string) error {
	resp, err := h.do(ctx, h.request(http.MethodPost, "/hadoop/hdfs/chown_directory",
		url.Values{"location": {location}, "uid": {user}, "gid": {"hdfs"}, "recursive": {"True"}}))
	if err != nil {
		return err
	}
	var answer struct {
		Status  string `json:"status"`
		RetCode *int   `json:"ret_code"`
		Err     any    `json:"err"`
	}
	if json.Unmarshal(resp.Body, &answer) != nil {
		return &failure{text: h.sentence(&httpclient.Error{Reason: httpclient.ReasonMalformed})}
	}
	if answer.Status != "success" || answer.RetCode == nil || *answer.RetCode != 0 {
		said := words(resp.Body)
		if answer.Err != nil {
			said = fmt.Sprint(answer.Err)
		}
		return &failure{text: "Granting rights did not succeed: " + said}
	}
	return nil
}
