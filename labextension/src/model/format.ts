import type { TranslationBundle } from '@jupyterlab/translation';

import type { Json } from '../api/json';
import { stringifyJson } from '../api/json';

/** `0.4 s`, `12 s`, `1:12`, `2:03:00`: seconds as people read them. */
export function formatDuration(seconds: number): string {
  if (seconds < 9.95) {
    return `${Math.max(0, seconds).toFixed(1)} s`;
  }
  const whole = Math.round(seconds);
  if (whole < 60) {
    return `${whole} s`;
  }
  const pad = (value: number) => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  return hours > 0 ? `${hours}:${pad(minutes)}:${pad(whole % 60)}` : `${minutes}:${pad(whole % 60)}`;
}

/** `90`, `90s`, `10m`, `1h 30m`, `1:30:00` in seconds; null when empty, NaN when it is none of these. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim().toLowerCase();
  if (trimmed === '') {
    return null;
  }
  const clock = /^(\d+):([0-5]?\d)(?::([0-5]?\d))?$/.exec(trimmed);
  if (clock) {
    const parts = clock.slice(1).filter(Boolean).map(Number);
    return parts.reduce((total, part) => total * 60 + part, 0);
  }
  const units = /^(?:(\d+(?:\.\d+)?)\s*h)?\s*(?:(\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(\d+(?:\.\d+)?)\s*s?)?$/.exec(trimmed);
  const seconds = units ? Number(units[1] ?? 0) * 3600 + Number(units[2] ?? 0) * 60 + Number(units[3] ?? 0) : NaN;
  return seconds > 0 ? seconds : NaN;
}

/** `3.1 MB`: bytes in decimal units, as file managers show them. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit] ?? ''}`;
}

/** The hour and minute of an instant, with the day when it is not today. */
export function formatTime(iso: string, withSeconds = false): string {
  const date = new Date(iso);
  const time = date.toLocaleTimeString(undefined, {
    hour: '2-digit',
    minute: '2-digit',
    ...(withSeconds ? { second: '2-digit' } : {})
  });
  if (date.toDateString() === new Date().toDateString()) {
    return time;
  }
  return `${date.toLocaleDateString(undefined, { day: 'numeric', month: 'short' })} ${time}`;
}

/** `just now`, `2 min ago`, `3 h ago`, else the date. */
export function formatAgo(iso: string, now: number, trans: TranslationBundle): string {
  const seconds = (now - new Date(iso).getTime()) / 1000;
  if (seconds < 60) {
    return trans.__('just now');
  }
  if (seconds < 3600) {
    return trans.__('%1 min ago', Math.floor(seconds / 60));
  }
  if (seconds < 86_400) {
    return trans.__('%1 h ago', Math.floor(seconds / 3600));
  }
  return formatTime(iso);
}

/** A value in a table cell: strings bare, numbers short, the rest as JSON. */
export function formatValue(value: Json | undefined): string {
  if (value === undefined) {
    return '–';
  }
  if (typeof value === 'string') {
    return value;
  }
  if (typeof value === 'number' && !Number.isInteger(value)) {
    return String(Number(value.toPrecision(6)));
  }
  return stringifyJson(value, true);
}

/** The first digits of a digest, enough to recognise it among the few that one sees. */
export function shortDigest(digest: string, digits = 4): string {
  return digest.replace(/^sha256:/, '').slice(0, digits);
}

/** The last part of a path. */
export function baseName(path: string): string {
  return path.replace(/\/+$/, '').split('/').pop() ?? path;
}

/** Order of two cell values: numbers by size, then text by locale with digits as numbers; missing ones last. */
export function compareValues(left: Json | undefined, right: Json | undefined): number {
  const isNumber = (value: Json | undefined): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';
  if (left === undefined || left === null || right === undefined || right === null) {
    return Number(left === undefined || left === null) - Number(right === undefined || right === null);
  }
  if (isNumber(left) && isNumber(right)) {
    return left < right ? -1 : left > right ? 1 : 0;
  }
  return formatValue(left).localeCompare(formatValue(right), undefined, { numeric: true });
}
