-- UTC calendar on whole numbers, proleptic Gregorian, no os.date. A day number counts days since 1970-01-01.

local ms_per_day = 86400000

-- Year and month (1-12) of a day number. The year is shifted to begin in March, so that the leap day is its last
-- day and months follow one linear rule; an era is the 400 years (146097 days) after which the calendar repeats.
local function civil_from_days(day)
  local shifted = day + 719468
  local era = math.floor(shifted / 146097)
  local day_of_era = shifted - era * 146097
  local year_of_era = math.floor(
    (day_of_era - math.floor(day_of_era / 1460) + math.floor(day_of_era / 36524) - math.floor(day_of_era / 146096))
      / 365
  )
  local day_of_year = day_of_era - (365 * year_of_era + math.floor(year_of_era / 4) - math.floor(year_of_era / 100))
  local march_month = math.floor((5 * day_of_year + 2) / 153)
  local month = march_month < 10 and march_month + 3 or march_month - 9
  local year = year_of_era + era * 400
  if month <= 2 then year = year + 1 end
  return year, month
end

-- Day number of the first day of a month (1-12).
local function days_from_civil(year, month)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local year_of_era = year - era * 400
  local march_month = month > 2 and month - 3 or month + 9
  local day_of_year = math.floor((153 * march_month + 2) / 5)
  local day_of_era = year_of_era * 365 + math.floor(year_of_era / 4) - math.floor(year_of_era / 100) + day_of_year
  return era * 146097 + day_of_era - 719468
end

-- The calendar day of a time in ms: its number and the ms at which it ends.
local function day_period(now_ms)
  local day = math.floor(now_ms / ms_per_day)
  return day, (day + 1) * ms_per_day
end

-- The calendar month of a time in ms: its number (year * 12 + month - 1) and the ms at which it ends.
local function month_period(now_ms)
  local year, month = civil_from_days(math.floor(now_ms / ms_per_day))
  local index = year * 12 + month - 1
  if month == 12 then year, month = year + 1, 0 end
  return index, days_from_civil(year, month + 1) * ms_per_day
end
