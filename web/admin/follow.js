// Confirms a new address of the console: the page at the old address has opened this one, with a token in its URL. The
// token is sent at once, before anybody is logged in, since the session's cookie may not reach another scheme.

import { call } from "./api.js";
import { signal } from "./component.js";
import { change, place } from "./view.js";

export const confirmed = { done: signal(false), fault: signal(undefined) };

export async function confirm() {
  const token = place.value.query.confirm;
  if (!token) return;
  change({ confirm: undefined }); // so that nobody copies a link with the token in it
  try {
    await call("POST", "listen/confirm", { body: { token } });
    confirmed.done.value = true;
  } catch (err) {
    confirmed.fault.value = err;
  }
}
