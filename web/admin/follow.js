// Confirming a new address: the page was sent here by the one at the old address, with a token in its own. That is told
// at once, before anybody is logged in, since the session's cookie may not reach another scheme.

import { call } from "./api.js";
import { signal } from "./component.js";
import { change, place } from "./view.js";

export const confirmed = { done: signal(false), fault: signal(undefined) };

export async function confirm() {
  const token = place.value.query.confirm;
  if (!token) return;
  change({ confirm: undefined }); // a link that is copied must not have it
  try {
    await call("POST", "listen/confirm", { body: { token } });
    confirmed.done.value = true;
  } catch (err) {
    confirmed.fault.value = err;
  }
}
