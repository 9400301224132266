const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A JSON object in UTF-8 that names no member twice, at any depth; undefined for anything else. */
export function parseObject(bytes: Uint8Array): JsonObject | undefined {
  try {
    const text = utf8.decode(bytes);
    const value: unknown = JSON.parse(text);
    return isObject(value) && !namesTwice(text) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether an object of this valid JSON has a member twice: parsers differ in which of them they take. */
function namesTwice(json: string): boolean {
  // One entry for each open bracket: the names so far, or null inside an array.
  const open: (Set<string> | null)[] = [];
  let nameNext = false;
  for (let at = 0; at < json.length; at += 1) {
    switch (json.charCodeAt(at)) {
      case 0x7b: // {
        open.push(new Set());
        nameNext = true;
        break;
      case 0x5b: // [
        open.push(null);
        nameNext = false;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        nameNext = false;
        break;
      case 0x2c: // ,
        nameNext = open.at(-1) != null;
        break;
      case 0x22: {
        // "
        const begin = at;
        let escaped = false;
        for (at += 1; json.charCodeAt(at) !== 0x22; at += 1) {
          if (json.charCodeAt(at) === 0x5c) {
            escaped = true;
            at += 1;
          }
        }
        const names = open.at(-1);
        if (nameNext && names) {
          const name = escaped ? (JSON.parse(json.slice(begin, at + 1)) as string) : json.slice(begin + 1, at);
          if (names.has(name)) return true;
          names.add(name);
          nameNext = false;
        }
        break;
      }
    }
  }
  return false;
}
