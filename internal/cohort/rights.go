package cohort

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
	"cohortflow/internal/queryexec"
)

// cohortRight is one item of the answer of cohort-rights (cohort.md 10.1).
type cohortRight struct {
	CohortID string      `json:"cohort_id"`
	Rights   GroupRights `json:"rights"`
}

func (a *api) cohortRights(c *gin.Context) error {
	groups := web.QueryOf(c).List("group_id")
	groups = slices.DeleteFunc(groups, func(g string) bool { return g == "" })
	list, err := a.rightsOn(c.Request.Context(), identity.CallerOf(c), groups)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, list)
	return nil
}

// rightsOn answers for those of the groups that are the caller's; the others are left out. It refuses nothing, not even a
// caller without any access: the front-end shows no cohort at all when it is refused (clients.md 15 and 37). The population of a group is the
// one of its snapshot, or of the snapshot's query where adopted rows have none; without any there are no rights (decision 7).
func (s *Service) rightsOn(ctx context.Context, caller identity.Caller, groups []string) ([]cohortRight, error) {
	var rows []struct {
		GroupID         string
		PerimetersIDs   database.StringArray `gorm:"column:perimeters_ids"`
		SerializedQuery string
	}
	if len(groups) > 0 {
		g := s.db.Read(ctx)
		err := g.Table("cohort_cohortresult c").
			Joins("LEFT JOIN cohort_requestquerysnapshot s ON s.uuid = c.request_query_snapshot_id").
			Where("c.deleted IS NULL AND c.owner_id = ?", caller.Username).Where(among(g, "c.group_id", groups)).
			Select("c.group_id, s.perimeters_ids, COALESCE(s.serialized_query, '') AS serialized_query").
			Order("c.created_at, c.uuid").Find(&rows).Error
		if err != nil {
			return nil, fmt.Errorf("find cohorts of groups: %w", err)
		}
	}
	list := []cohortRight{}
	var populations [][]string
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.GroupID] {
			continue
		}
		seen[r.GroupID] = true
		population := r.PerimetersIDs
		if len(population) == 0 {
			population = queryexec.Population(r.SerializedQuery)
		}
		list, populations = append(list, cohortRight{CohortID: r.GroupID}), append(populations, population)
	}
	rights, err := s.rights.CohortRights(ctx, caller.Username, populations)
	if err != nil {
		return nil, fmt.Errorf("rights on cohorts: %w", err)
	}
	for i := range list {
		list[i].Rights = rights[i]
	}
	return list, nil
}
