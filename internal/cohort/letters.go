package cohort

import (
	"context"
)

// Title is what a mail about a cohort names: its name, "" for none, and its list of patients. fault.NotFound: it is
// deleted.
func (s *Service) Title(ctx context.Context, id string) (name, groupID string, err error) {
	c, err := take[Cohort](s.db.Read(ctx).Where("uuid = ? AND deleted IS NULL", id))
	if err != nil {
		return "", "", err
	}
	if c.Name != nil {
		name = *c.Name
	}
	return name, c.GroupID, nil
}
