/** One line of the board. */
export interface Entry {
  userId: string;
  score: number;
  /** Given on boards beside the default one; `ranked` knows it in either case. */
  rank?: number;
}

/** The whole top 10, best first, as of event `seq` of `epoch`. */
export interface Update {
  /** `board_update` for boards beside the default one. */
  type: "leaderboard_update" | "board_update";
  /** The name of the board. This and the next five are absent on the default board. */
  board?: string;
  /** The number of the current period, from 1. */
  period?: number;
  /** When the period began, ISO 8601 in UTC; null if it always was. */
  startsAt?: string | null;
  /** When it ends; null if it never does. */
  endsAt?: string | null;
  /** Whether it has begun and not ended; false after the last season, and between two. */
  isCurrent?: boolean;
  /** The server's clock; absent while the client polls another site, which hides it. */
  at?: string;
  leaderboard: Entry[];
  /** The log that `seq` counts in. The seqs of two epochs cannot be compared. */
  epoch: string;
  seq: number;
  /** Whole seconds since the service could last look for newer events; absent while it can. */
  age?: number;
}

/** The state of the board that was shown last. */
export interface State {
  /**
   * - `connecting`: there is no board yet
   * - `live`: each change arrives at once
   * - `polling`: sockets are blocked; the client requests the board every five seconds
   * - `stale`: connected, but the service cannot look for newer events
   * - `reconnecting`: the connection is lost, and the client tries to restore it
   * - `refused`: the board needs a token, and there is none or it is not good; the client tries again every half minute
   * - `paused`: the page is hidden
   * - `closed`: by `close()`
   */
  state: "connecting" | "live" | "polling" | "stale" | "reconnecting" | "refused" | "paused" | "closed";
  /** When the board was last known to be current; undefined while it is, and while there is no board. */
  since: Date | undefined;
}

/** A response of `GET /api/v1/boards/{board}`. */
export interface BoardPage {
  board: string;
  period: number;
  startsAt: string | null;
  endsAt: string | null;
  isCurrent: boolean;
  leaderboard: (Entry & { rank: number; position: number })[];
  total: number;
  seq: number;
}

/** Returns an access token, or nothing if nobody is signed in. It is called anew whenever a token is sent. */
export type Token = () => string | null | undefined | Promise<string | null | undefined>;

export interface Options {
  /** The name of a board; by default the default board, `leaderboard`. */
  board?: string;
  /** Needed for a board that is not public; never called for the default board. */
  token?: Token;
  /** The URL to poll while sockets are blocked; by default `api/v1/…` where the socket has `ws/…`. */
  api?: string | URL;
  /** Whether to disconnect while the page is hidden; by default true. */
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
export function boardUpdateOf(body: Omit<BoardPage, "total">, etag: string, date: string | null): Update;
