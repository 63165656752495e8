import React, { useId, useRef } from 'react';

/** A tab: its title, a figure beside it, and what it shows. Only the chosen one is rendered. */
export interface Tab {
  id: string;
  title: string;
  count?: number;
  body(): React.ReactNode;
}

interface TabsProps {
  label: string;
  tabs: readonly Tab[];
  chosen: string;
  onChoose(id: string): void;
}

/** Tabs as the keyboard expects them: arrows move, one stop for the Tab key. */
export function Tabs({ label, tabs, chosen, onChoose }: TabsProps): React.JSX.Element {
  const list = useRef<HTMLDivElement>(null);
  const prefix = useId();
  const index = Math.max(
    0,
    tabs.findIndex(tab => tab.id === chosen)
  );
  const current = tabs[index];
  const choose = (next: number) => {
    const tab = tabs[(next + tabs.length) % tabs.length];
    if (tab) {
      onChoose(tab.id);
      list.current?.querySelectorAll('button')[(next + tabs.length) % tabs.length]?.focus();
    }
  };
  return (
    <div className="jobs-Tabs">
      <div className="jobs-Tabs-list" role="tablist" aria-label={label} ref={list}>
        {tabs.map((tab, position) => (
          <button
            key={tab.id}
            type="button"
            role="tab"
            id={`${prefix}${tab.id}`}
            aria-selected={position === index}
            aria-controls={`${prefix}body`}
            tabIndex={position === index ? 0 : -1}
            className="jobs-Tab"
            onClick={() => onChoose(tab.id)}
            onKeyDown={event => {
              const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
              if (step !== undefined) {
                event.preventDefault();
                choose(position + step);
              }
            }}
          >
            {tab.title}
            {tab.count !== undefined && tab.count > 0 && <span className="jobs-Tab-count">{tab.count}</span>}
          </button>
        ))}
      </div>
      <div className="jobs-Tabs-body" role="tabpanel" id={`${prefix}body`} aria-labelledby={`${prefix}${current?.id ?? ''}`}>
        {current?.body()}
      </div>
    </div>
  );
}
