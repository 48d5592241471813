// Sums over the embedded cube. Here belongs arithmetic only: nothing here touches the document.
// Days are numbers since 1970-01-01, money is whole cents, so every sum is exact.

const dayOf = (iso) => Date.parse(`${iso.slice(0, 10)}T00:00Z`) / 864e5;
const isoOf = (day) => new Date(day * 864e5).toISOString().slice(0, 10);

/** The number of the month of a day. */
function monthOf(day) {
  const date = new Date(day * 864e5);
  return date.getUTCFullYear() * 12 + date.getUTCMonth();
}

/** The first day of the month with that number. */
const monthStart = (month) => Date.UTC(1970, month - 1970 * 12) / 864e5;

/** The same date some months later; the last of a month that has not so many days. */
function shiftMonths(day, months) {
  const date = new Date(day * 864e5);
  date.setUTCMonth(date.getUTCMonth() + months);
  if (monthOf(date.getTime() / 864e5) !== monthOf(day) + months) date.setUTCDate(0);
  return date.getTime() / 864e5;
}

/** Days up to this many are shown singly, and compared by weekday. */
const SINGLE_DAYS = 62;

/**
 * What a period is compared with: a function from a first and last day in it to those before.
 * They move by whole weeks where days count, so that Mondays meet Mondays. Sums of months move by
 * months.
 */
function comparison(from, to, mode, unit = "day") {
  // The end is that of the day after, so that ranges which follow each other do so before, too.
  const byMonths = (count) => (start, end) => [shiftMonths(start, -count), shiftMonths(end + 1, -count) - 1];
  if (unit === "month") return byMonths(mode === "year" ? 12 : monthOf(to) - monthOf(from) + 1);
  const length = to - from + 1;
  // Whole weeks, too, as soon as there is one.
  const back = length < 7 ? length : 7 * Math.ceil(length / 7);
  if (mode === "before") return (start, end) => [start - back, end - back];
  if (length <= SINGLE_DAYS) return (start, end) => [start - 364, end - 364];
  return byMonths(12);
}

/**
 * The period in days, weeks (from Monday) or months, by its length: `{from, to, isWhole}` each.
 * `least`: what of these the rows are sums of.
 */
function cut(from, to, least = "day") {
  const length = to - from + 1;
  const unit = least === "month" || length > 200 ? "month" : length <= SINGLE_DAYS ? "day" : "week";
  const pieces = [];
  for (let day = from; day <= to;) {
    let [start, next] = [day, day + 1];
    if (unit === "week") {
      start = day - ((day + 3) % 7); // 1970-01-01 was a Thursday
      next = start + 7;
    } else if (unit === "month") {
      start = monthStart(monthOf(day));
      next = monthStart(monthOf(day) + 1);
    }
    const last = Math.min(next - 1, to);
    pieces.push({ from: day, to: last, isWhole: start === day && last === next - 1 });
    day = last + 1;
  }
  return { unit, pieces };
}

/** The bytes of a text of pack.py: their number, a colon, and two letters for each 13 bits. */
function bytesOf(text) {
  const values = new Uint8Array(127);
  for (let code = 33, n = 0; code < 127; code++) if (!"<>&".includes(String.fromCharCode(code))) values[code] = n++;
  const colon = text.indexOf(":");
  const bytes = new Uint8Array(Number(text.slice(0, colon)));
  let [held, bits, at] = [0, 0, 0];
  for (let n = colon + 1; n < text.length; n += 2) {
    held = (held << 13) | (values[text.charCodeAt(n)] * 91 + values[text.charCodeAt(n + 1)]);
    bits += 13;
    while (bits >= 8) {
      bits -= 8;
      // The last bits may be none of a byte. An array takes nothing beyond its end.
      bytes[at++] = held >> bits;
    }
    held &= (1 << bits) - 1;
  }
  return bytes;
}

/** Reads an archive of pack.py: its description, and a function that reads a column. */
function opened(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const description = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  function column({ at, rows, low, bytes: width, wrap }) {
    // Small numbers are read far faster.
    const isSmall = Math.abs(low) < 2 ** 30 && width < 4;
    const numbers = new (isSmall ? Int32Array : Float64Array)(rows).fill(low);
    let begin = 4 + length + at;
    for (let n = 0, factor = 1; n < width; n++, factor *= 256, begin += rows)
      for (let row = 0; row < rows; row++) numbers[row] += bytes[begin + row] * factor;
    // Steps from one number to the next, going round.
    if (wrap) for (let row = 1; row < rows; row++) numbers[row] = (numbers[row - 1] + numbers[row]) % wrap;
    return numbers;
  }
  return { description, column };
}

/** Lets the browser answer the reader and paint. Long work does so every few milliseconds. */
const pause = () => globalThis.scheduler?.yield?.() ?? new Promise((done) => setTimeout(done));

const startsWith = (path, prefix) => prefix.every((part, n) => part === path[n]);

class Cube {
  /** `column` reads a packed column. */
  static async read({ cube, first, page }, column) {
    const made = new Cube();
    const read = async (packed) => {
      const found = {};
      for (const [name, entry] of Object.entries(packed)) {
        found[name] = column(entry);
        await pause();
      }
      return found;
    };
    const [direct, follows] = [await read(cube.items), await read(cube.follows)];
    made.page = page;
    made.paths = cube.paths;
    made.actors = cube.actors;
    made.first = dayOf(first);
    made.days = column(cube.days).map((day) => day + made.first);
    made.events = await read(cube.events);
    made.events.actor = made.events.actor?.map((place) => place - 1);
    for (const [name, parts] of Object.entries(await read(cube.kinds)))
      made.events[name] = made.events.kind.map((kind) => parts[kind]);
    await pause();
    // Packed as hours since the day began, which compress better.
    made.events.hour = made.events.hour?.map((hour, n) =>
      hour < 0 ? hour : (hour + 24 * ((made.days[n] + 3) % 7)) % 168);
    made.marks = cube.marks && column(cube.marks);
    made.items = { ...direct };
    for (const { name, of } of page.dimensions)
      if (name in follows) made.items[name] = direct[of].map((code) => follows[name][code]);
    await pause();
    made.begin = new Int32Array(made.days.length + 1);
    made.events.items.forEach((count, n) => (made.begin[n + 1] = made.begin[n] + count));
    if (cube.amountBy) {
      const begins = column(cube.amountBegin);
      const keys = direct[cube.amountBy];
      const at = column(cube.amountRow).map((row, n) => begins[keys[n]] + row);
      const keyOf = new Int32Array(at.length ? 1 + at.reduce((top, entry) => Math.max(top, entry), 0) : 0);
      at.forEach((entry, n) => (keyOf[entry] = keys[n]));
      let main;
      made.sums = {};
      for (const name in cube.sums) {
        await pause();
        const { ratio, rest } = cube.sums[name];
        const ratios = ratio && column(ratio);
        const amounts = ratio
          ? column(rest).map((left, entry) => left + Math.floor((main[entry] * ratios[keyOf[entry]]) / 1e6 + 0.5))
          : column(cube.sums[name]);
        main ??= amounts;
        made.sums[name] = at.map((entry) => amounts[entry]);
      }
    } else made.sums = await read(cube.sums);
    made.names = Object.keys(made.sums);
    return made;
  }

  /** The first event of that day or a later one. */
  from(day) {
    let [low, high] = [0, this.days.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.days[middle] < day) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  zeros(size) {
    return Object.fromEntries([...this.names, "events"].map((name) => [name, new Float64Array(size)]));
  }

  /**
   * Sums of the days from `from` to each of `ends`, included, by that end. They cost little more than
   * those to the last one. `chosen` has a list of paths by dimension; an empty list takes everything,
   * a path everything that begins with it.
   */
  async sum(from, ends, chosen) {
    const { names, sums, begin, items, events, page, paths, marks } = this;
    // Arrays side by side instead of objects by name: this loop runs for every row.
    const allows = (name) =>
      chosen[name]?.length
        ? Uint8Array.from(paths[name], (path) => chosen[name].some((prefix) => startsWith(path, prefix)))
        : null;
    const all = this.zeros(1);
    const day = this.zeros(Math.max(0, Math.max(...ends) - from + 1));
    const parts = Object.fromEntries(page.dimensions.map(({ name }) => [name, this.zeros(paths[name].length)]));
    const grain = (wanted, columns) =>
      page.dimensions
        .filter((each) => each.grain === wanted)
        .map(({ name }) => ({
          name,
          codes: columns[name],
          allowed: allows(name),
          sums: names.map((key) => parts[name][key]),
          events: parts[name].events,
          last: new Int32Array(paths[name].length).fill(-1),
        }));
    const [ofEvent, ofItem] = [grain("event", events), grain("item", items)];
    const [eventFilters, itemFilters] = [ofEvent, ofItem].map((each) => each.filter(({ allowed }) => allowed));
    const hours = events.hour && {
      weekday: new Float64Array(7 * 24),
      ...Object.fromEntries(ofEvent.map(({ name }) => [name, new Float64Array(paths[name].length * 24)])),
    };
    const seen = events.actor && new Uint8Array(this.actors);
    const columns = names.map((name) => sums[name]);
    const [ofAll, ofDay] = [all, day].map((group) => names.map((name) => group[name]));
    const here = new Float64Array(names.length);
    const isOut = (filters, row) => {
      for (let n = 0; n < filters.length; n++) if (!filters[n].allowed[filters[n].codes[row]]) return true;
      return false;
    };
    const add = (into, n) => {
      for (let k = 0; k < here.length; k++) into[k][n] += here[k];
    };
    const found = {};
    let [rows, event] = [0, this.from(from)];
    const keep = (end) => {
      const count = (least) => (seen ? seen.reduce((actors, times) => actors + (times >= least), 0) : null);
      found[end] = {
        // What goes on to change is copied. Days after the end stand behind those that are asked for.
        ...structuredClone({ all, parts, hours }),
        day,
        isEmpty: !rows,
        // Without single events, those of several kinds of item cannot be told apart.
        areEventsKnown: !marks || !itemFilters.length,
        actors: count(1),
        repeaters: count(2),
      };
    };
    const left = [...new Set(ends)].sort((a, b) => b - a);
    const last = this.from(left[0] + 1);
    for (; event < last; event++) {
      while (this.days[event] > left.at(-1)) keep(left.pop());
      if (event % 4096 === 0) await pause();
      if (isOut(eventFilters, event)) continue;
      here.fill(0);
      let [count, isFound] = [0, false];
      for (let item = begin[event]; item < begin[event + 1]; item++) {
        if (isOut(itemFilters, item)) continue;
        count += marks ? marks[item] : isFound ? 0 : 1;
        isFound = true;
        for (let k = 0; k < columns.length; k++) here[k] += columns[k][item];
        for (let d = 0; d < ofItem.length; d++) {
          const { codes, sums: into, events: times, last } = ofItem[d];
          const part = codes[item];
          for (let k = 0; k < columns.length; k++) into[k][part] += columns[k][item];
          if (last[part] === event) continue;
          last[part] = event;
          times[part]++;
        }
      }
      if (!isFound) continue;
      rows++;
      const at = this.days[event] - from;
      add(ofAll, 0);
      all.events[0] += count;
      add(ofDay, at);
      day.events[at] += count;
      const hour = hours ? events.hour[event] : -1;
      // An hour of the week, which may be that of another day in the local time.
      if (hour >= 0) hours.weekday[hour] += count;
      for (let d = 0; d < ofEvent.length; d++) {
        const { name, codes, sums: into, events: times } = ofEvent[d];
        const part = codes[event];
        add(into, part);
        times[part] += count;
        if (hour >= 0) hours[name][part * 24 + (hour % 24)] += count;
      }
      const actor = seen ? events.actor[event] : -1;
      if (actor >= 0 && seen[actor] < 2) seen[actor]++;
    }
    left.reverse().forEach(keep);
    return found;
  }
}

/** What of a measure is summed, and whether its young days are left out. */
function measuresOf(page) {
  const byName = Object.fromEntries(page.measures.map((measure) => [measure.name, measure]));
  /** The value of a measure in sums, for entry `n` of one of their groups; null: not known. */
  function value(name, sums, group, n = 0) {
    const { sum, plus, minus, counts, of } = byName[name];
    if (sum) return group[name][n];
    const added = (parts) => parts.reduce((total, part) => total + value(part, sums, group, n), 0);
    if (plus) return added(plus) - added(minus);
    if (of) {
      const [above, below] = of.map((part) => value(part, sums, group, n));
      return above === null || !below ? null : above / below;
    }
    if (counts === "events") return sums.areEventsKnown ? group.events[n] : null;
    return group === sums.all ? sums[counts] : null;
  }
  return { byName, value };
}
