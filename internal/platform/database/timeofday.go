package database

import (
	"database/sql/driver"
	"fmt"
	"strings"
	"time"
)

// TimeOfDay is the value of a column of type time: microseconds since midnight, UTC (contract: schema.md 2.5).
type TimeOfDay int64

const microsecondsPerDay = 24 * 60 * 60 * 1_000_000

// ParseTimeOfDay reads "15:04", "15:04:05" or "15:04:05.999999".
func ParseTimeOfDay(text string) (TimeOfDay, error) {
	for _, layout := range []string{"15:04", "15:04:05"} { // Parse accepts a fraction after the seconds
		if len(text) < len(layout) || text[2] != ':' {
			continue
		}
		if t, err := time.Parse(layout, text); err == nil {
			return timeOfDay(t), nil
		}
	}
	if strings.TrimRight(text, "0.") == "24:00:" || text == "24:00" {
		return microsecondsPerDay, nil // PostgreSQL's name for the end of the day
	}
	return 0, fmt.Errorf("%q is no time of day", text)
}

func timeOfDay(t time.Time) TimeOfDay {
	seconds := (t.Hour()*60+t.Minute())*60 + t.Second()
	return TimeOfDay(int64(seconds)*1_000_000 + int64(t.Nanosecond()/1000))
}

// Hour, of 0 to 24.
func (t TimeOfDay) Hour() int { return int(t / 3_600_000_000) }

// Minute, of 0 to 59.
func (t TimeOfDay) Minute() int { return int(t / 60_000_000 % 60) }

// String is "15:04:05", followed by ".999999" (six digits) unless they are zero: the form that clients are sent.
func (t TimeOfDay) String() string {
	text := fmt.Sprintf("%02d:%02d:%02d", t.Hour(), t.Minute(), t/1_000_000%60)
	if fraction := t % 1_000_000; fraction != 0 {
		text += fmt.Sprintf(".%06d", fraction)
	}
	return text
}

// GormDataType implements schema.GormDataTypeInterface.
func (TimeOfDay) GormDataType() string { return "time" }

// Value implements driver.Valuer.
func (t TimeOfDay) Value() (driver.Value, error) {
	if t < 0 || t > microsecondsPerDay {
		return nil, fmt.Errorf("%d microseconds are no time of day", int64(t))
	}
	return t.String(), nil
}

// Scan implements sql.Scanner.
func (t *TimeOfDay) Scan(src any) error {
	if at, ok := src.(time.Time); ok {
		*t = timeOfDay(at)
		return nil
	}
	text, null, err := scanText(src)
	if err != nil || null {
		return fmt.Errorf("scan a time of day: unexpected %T", src)
	}
	*t, err = ParseTimeOfDay(text)
	return err
}

// MarshalText implements encoding.TextMarshaler.
func (t TimeOfDay) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *TimeOfDay) UnmarshalText(text []byte) (err error) {
	*t, err = ParseTimeOfDay(string(text))
	return err
}
