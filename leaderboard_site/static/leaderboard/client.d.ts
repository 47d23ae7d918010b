/** One line of the board. */
export interface Entry {
  userId: string;
  score: number;
}

/** The whole top 10, best first, right after event `seq` of `epoch`. */
export interface Update {
  type: "leaderboard_update";
  leaderboard: Entry[];
  /** Which log `seq` counts in: of two epochs, nothing can be said about before and after. */
  epoch: string;
  seq: number;
  /** Whole seconds for which nobody could say whether there are newer events; absent while somebody can. */
  age?: number;
}

/** What can be said about the board that was shown last. */
export interface State {
  /**
   * - `connecting`: there is none yet
   * - `live`: each change comes at once
   * - `polling`: sockets are blocked; it is asked for every five seconds
   * - `stale`: connected, but there may be newer events that nobody here can know of
   * - `reconnecting`: the connection is lost, and looked for
   * - `paused`: nobody looks at the page
   * - `closed`: by `close()`
   */
  state: "connecting" | "live" | "polling" | "stale" | "reconnecting" | "paused" | "closed";
  /** When it was last known to be the newest; undefined while it is, and when there is none. */
  since: Date | undefined;
}

export interface Options {
  /** Where to ask while sockets are blocked; by default `/api/v1/leaderboard` on the socket's host. */
  api?: string | URL;
  /** Whether to hang up while the page is hidden; by default true. */
  pause?: boolean;
}

export interface ClientEvents {
  update: CustomEvent<Update>;
  state: CustomEvent<State>;
}

export class LeaderboardClient extends EventTarget {
  constructor(url: string | URL, options?: Options);
  readonly newest: Update | undefined;
  readonly state: State;
  close(): void;
  addEventListener<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof ClientEvents>(
    name: Name,
    listener: (event: ClientEvents[Name]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export function waitMs(failures: number, random?: () => number): number;
export function isOlder(update: Update, shown: Update | undefined): boolean;
export function ranked(entries: Entry[]): (Entry & { rank: number })[];
export function updateOf(body: { leaderboard: (Entry & { rank: number })[]; seq: number }, etag: string): Update;
