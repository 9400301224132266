const FORM = /^csign_(?:sat|pub|ses)_[0-9A-Za-z]{22}_[0-9A-Za-z]{43}_([0-9A-Za-z]{6})$/;
const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** Whether this is a whole token string: its last part is the CRC-32 of what stands before, in base 62. */
export function isTokenString(text: string): boolean {
  const checksum = FORM.exec(text)?.[1];
  return checksum !== undefined && checksum === base62(crc32(text.slice(0, text.lastIndexOf("_"))));
}

function crc32(text: string): number {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text)) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] as number);
  return (crc ^ 0xffffffff) >>> 0;
}

function base62(value: number): string {
  let digits = "";
  for (let rest = value; digits.length < 6; rest = Math.floor(rest / 62)) digits = `${DIGITS[rest % 62]}${digits}`;
  return digits;
}
