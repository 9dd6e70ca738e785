// Proof of work (ALTCHA, version 2): finds the number whose derived key begins as the challenge says. The browser derives
// keys off the page's thread, so typing stays smooth. Without Web Crypto, which wants https, there is no proof, and a
// letter is taken all the same, though fewer of them.

const AT_ONCE = 4;
const MOST = 100_000;

/** Solve a challenge of the site, and return what is sent with the letter. */
export async function solve(challenge) {
  const { algorithm, cost, keyLength, keyPrefix, nonce, salt } = challenge.parameters;
  if (algorithm !== "PBKDF2/SHA-256") throw new Error("This challenge is of another kind.");
  const begun = performance.now();
  const derived = { name: "PBKDF2", hash: "SHA-256", salt: bytes(salt), iterations: cost };
  const start = bytes(nonce);
  for (let counter = 0; counter < MOST; counter += AT_ONCE) {
    const tried = await Promise.all(
      Array.from({ length: AT_ONCE }, (_, step) => derive(start, counter + step, derived, keyLength)),
    );
    const found = tried.findIndex((key) => key.startsWith(keyPrefix));
    if (found >= 0) {
      const solution = { counter: counter + found, derivedKey: tried[found], time: Math.round(performance.now() - begun) };
      return btoa(JSON.stringify({ challenge, solution }));
    }
  }
  throw new Error("This challenge has no solution.");
}

async function derive(nonce, counter, how, length) {
  const password = new Uint8Array(nonce.length + 4);
  password.set(nonce);
  new DataView(password.buffer).setUint32(nonce.length, counter);
  const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
  const bits = new Uint8Array(await crypto.subtle.deriveBits(how, key, length * 8));
  return Array.from(bits, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytes(hex) {
  return Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
}
