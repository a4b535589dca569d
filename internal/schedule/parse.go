package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"cohortflow/tasks"
)

// Entry is one schedule: at each of its times, in UTC, the task is owed once.
type Entry struct {
	Name    string
	Task    tasks.Spec
	Payload any // nil: a tasks.Tick
	When    cron.Schedule
}

// ParseTasks reads SCHEDULED_TASKS (system.md 17.3, decision 13): entries separated by semicolons or new lines, in one of three forms:
//
//	name,module.function,hour,minute
//	name,module,function,hour,minute
//	name,task,cron expression          (five fields separated by spaces)
//
// known finds a task by its name. All mistakes are reported at once; a later entry of a name replaces an earlier one.
func ParseTasks(text string, known func(name string) (tasks.Spec, bool)) ([]Entry, error) {
	var entries []Entry
	var errs []error
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		entry, err := parseLine(line, known)
		if err != nil {
			errs = append(errs, fmt.Errorf("SCHEDULED_TASKS: %q: %w", strings.TrimSpace(line), err))
			continue
		}
		entries = replace(entries, entry)
	}
	return entries, errors.Join(errs...)
}

func replace(entries []Entry, entry Entry) []Entry {
	for i := range entries {
		if entries[i].Name == entry.Name {
			entries[i] = entry
			return entries
		}
	}
	return append(entries, entry)
}

func parseLine(line string, known func(name string) (tasks.Spec, bool)) (Entry, error) {
	fields := strings.Split(line, ",")
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	if len(fields) < 3 {
		return Entry{}, errors.New("want name,task,hour,minute or name,task,cron expression")
	}
	if expression := strings.Join(fields[2:], ","); len(strings.Fields(expression)) == 5 {
		return build(fields[0], []string{fields[1]}, expression, known)
	}
	switch len(fields) {
	case 4:
		return build(fields[0], []string{fields[1]}, fields[3]+" "+fields[2]+" * * *", known)
	case 5:
		names := []string{fields[1] + "." + fields[2]}
		if !strings.HasSuffix(fields[1], ".tasks") {
			names = append(names, fields[1]+".tasks."+fields[2])
		}
		return build(fields[0], names, fields[4]+" "+fields[3]+" * * *", known)
	}
	return Entry{}, fmt.Errorf("%d fields, want 4, 5, or a cron expression of five fields", len(fields))
}

func build(name string, names []string, expression string, known func(name string) (tasks.Spec, bool)) (Entry, error) {
	if name == "" {
		return Entry{}, errors.New("the entry has no name")
	}
	when, err := ParseCron(expression)
	if err != nil {
		return Entry{}, err
	}
	for _, candidate := range names {
		if spec, ok := known(candidate); ok {
			return Entry{Name: name, Task: spec, When: when}, nil
		}
	}
	return Entry{}, fmt.Errorf("no task is named %s", strings.Join(names, " or "))
}

// ParseCron reads a line of five fields, in UTC. The parser panics on some malformed zones (robfig/cron#554): a line of
// ours has none, and one that has is refused.
func ParseCron(expression string) (cron.Schedule, error) {
	if strings.Contains(expression, "TZ=") || strings.HasPrefix(strings.TrimSpace(expression), "@") {
		return nil, errors.New("want five fields: minute, hour, day of month, month, day of week; times are UTC")
	}
	when, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(expression)
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w", expression, err)
	}
	return utc{when}, nil
}

// utc makes a schedule speak UTC whatever the zone of the moment it is asked about.
type utc struct{ cron.Schedule }

// Next implements cron.Schedule.
func (u utc) Next(t time.Time) time.Time { return u.Schedule.Next(t.UTC()) }
