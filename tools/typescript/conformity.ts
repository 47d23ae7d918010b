// What client.js exports is what client.d.ts declares, or `make types` fails here.

import type * as declared from "../../leaderboard_site/static/leaderboard/client.d.ts";
import type * as written from "client-itself";

type Conforming<Exports extends typeof declared> = Exports;
export type Client = Conforming<typeof written>;
