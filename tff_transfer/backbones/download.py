"""TF-Hub and Kaggle modules by URL: from TF-Hub's cache, or fetched with deadlines."""

import queue
import threading
import urllib.request

from tensorflow_hub import compressed_module_resolver

from tff_transfer.errors import UserError, one_line

# Until the server answers, and between two pieces of what it sends.
DEADLINE_SECONDS = 8


class _Resolver(compressed_module_resolver.HttpCompressedFileResolver):
    """TF-Hub's own download and cache, which by itself waits for ever."""

    def _call_urlopen(self, request):
        # A socket's timeout does not cover looking a name up, so that a thread has
        # to be left behind where no name server answers.
        answers = queue.SimpleQueue()

        def ask():
            try:
                response = urllib.request.urlopen(
                    request, timeout=DEADLINE_SECONDS, context=self._context
                )
                answers.put((response, None))
            except Exception as error:
                answers.put((None, error))

        threading.Thread(target=ask, daemon=True).start()
        try:
            response, error = answers.get(timeout=DEADLINE_SECONDS)
        except queue.Empty:
            raise TimeoutError(f'no answer within {DEADLINE_SECONDS} s') from None
        if error is not None:
            raise error
        return response


def fetch(url: str) -> str:
    """Returns the folder of a module's SavedModel, downloaded unless in the cache.

    The cache is TF-Hub's own: `$TFHUB_CACHE_DIR`, or `tfhub_modules` among the
    system's temporary files.

    Args:
      url: A handle of tfhub.dev or of kaggle.com/models, or the URL of a `.tar.gz`.

    Raises:
      UserError: It cannot be reached, or is no module; within ten seconds where no
        server answers.
    """
    try:
        return _Resolver()(url)
    except Exception as error:  # TF-Hub, sockets and archives each raise their own.
        raise UserError(
            f'backbone {url} is not in the TF-Hub cache and cannot be downloaded'
            f' ({one_line(error)}); connect to the network, set TFHUB_CACHE_DIR to a'
            ' cache that has it, give the path of a SavedModel folder or .tar.gz of'
            ' it, or use the backbone embedded'
        ) from error
