package cohort

import (
	"github.com/gin-gonic/gin"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/web"
)

// fieldsOf reads the body of a change: aliases are resolved (x_id wins over x, cohort.md 2.4), then it can be read field by
// field. What is forced, by the path, wins over both.
func fieldsOf(c *gin.Context, partial bool, forced web.Object, references ...string) (*web.Fields, error) {
	body, err := web.Body(c)
	if err != nil {
		return nil, err
	}
	expanded := make(web.Object, len(body))
	for k, v := range body {
		expanded[k] = v
	}
	for _, name := range references {
		if v, ok := body[name+"_id"]; ok {
			expanded[name] = v
		}
	}
	for k, v := range forced {
		expanded[k] = v
	}
	return web.FieldsOf(expanded, partial), nil
}

// checkOwner refuses any owner but the caller (cohort.md 2.4). The field is optional: the owner is the caller.
func checkOwner(f *web.Fields, caller identity.Caller) {
	if owner := f.String("owner", web.Blank); owner.Set && owner.Value != caller.Username {
		f.Add("owner", web.NoSuchRow(owner.Value))
	}
}
