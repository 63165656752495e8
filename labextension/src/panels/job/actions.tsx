import { Dialog, showDialog, showErrorMessage } from '@jupyterlab/apputils';
import { ellipsesIcon } from '@jupyterlab/ui-components';
import { CommandRegistry } from '@lumino/commands';
import { Menu } from '@lumino/widgets';
import React from 'react';

import type { Job } from '../../api/schema';
import { useShared } from '../../components/context';
import { errorBody } from '../../components/hooks';
import { isFinal } from '../../model/states';

/** Cancel, and behind `⋯` what is rarer. */
export function JobActions({ job }: { job: Job }): React.JSX.Element {
  const { store, trans, go } = useShared();
  const isEnded = job.status === null || isFinal(job.status);

  const attempt = (title: string, work: Promise<void>) =>
    void work.catch((error: unknown) => {
      const { message, mend } = errorBody(error);
      return showErrorMessage(title, `${message} ${mend}`.trim());
    });

  const remove = async () => {
    const result = await showDialog({
      title: trans.__('Delete %1?', job.name),
      body: isEnded
        ? trans.__('Its runs, their logs, notebooks and files are deleted. Your project is not touched.')
        : trans.__('It is canceled first. Its runs, their logs, notebooks and files are deleted. Your project is not touched.'),
      defaultButton: 0,
      buttons: [Dialog.cancelButton({ label: trans.__('Keep') }), Dialog.warnButton({ label: trans.__('Delete') })]
    });
    if (result.button.accept) {
      await store.deleteJob(job.id, !isEnded);
    }
  };

  const openMenu = (element: HTMLElement) => {
    const commands = new CommandRegistry();
    commands.addCommand('open', { label: trans.__('Open the Notebook'), execute: () => go.openFile(job.source) });
    commands.addCommand('again', { label: trans.__('Run the Notebook as a Job…'), execute: () => go.newJob(job.source) });
    commands.addCommand('delete', {
      label: trans.__('Delete…'),
      execute: () => attempt(trans.__('The job was not deleted'), remove())
    });
    const menu = new Menu({ commands });
    menu.addItem({ command: 'open' });
    menu.addItem({ command: 'again' });
    menu.addItem({ type: 'separator' });
    menu.addItem({ command: 'delete' });
    menu.aboutToClose.connect(() => element.focus());
    const { right, bottom } = element.getBoundingClientRect();
    menu.open(right, bottom, { horizontalAlignment: 'right' });
  };

  return (
    <span className="jobs-Actions">
      {!isEnded && (
        <button
          type="button"
          className="jobs-Button"
          onClick={() => attempt(trans.__('The job was not canceled'), store.cancelJob(job.id))}
        >
          {trans.__('Cancel')}
        </button>
      )}
      <button
        type="button"
        className="jobs-IconButton"
        aria-haspopup="menu"
        aria-label={trans.__('More actions')}
        title={trans.__('More actions')}
        onClick={event => openMenu(event.currentTarget)}
      >
        <ellipsesIcon.react tag="span" width="16px" />
      </button>
    </span>
  );
}
